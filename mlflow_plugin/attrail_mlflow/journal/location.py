"""The place of a journal: a file's path, or the address of a database that holds one."""

from pathlib import Path

from sqlalchemy import URL, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from attrail_explainers.errors import ConfigError
from attrail_explainers.files.plain_file import open_plain
from attrail_mlflow.journal.file import JournalFile
from attrail_mlflow.journal.journal import Store
from attrail_mlflow.journal.table import JournalTable


def is_database(place: str) -> bool:
    """Whether a place is a database's address, as ``postgresql://host/mlflow``."""
    return "://" in place


def store_at(place: str) -> Store:
    """The store of the journal at a place; ConfigError when it names no kind of database that is installed."""
    if not is_database(place):
        return JournalFile(Path(place))
    try:
        return JournalTable(create_engine(place))
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        raise ConfigError(f"journal {shown(place)}: {error}") from error


def kept_store_at(place: str) -> Store:
    """The store of a journal that is only read.

    Raises ConfigError as ``store_at``, and when an SQLite database is no file that exists: opening it would make an
    empty one.
    """
    if is_database(place):
        try:
            _require_file(make_url(place))
        except (ArgumentError, NoSuchModuleError, ValueError, OSError) as error:
            raise ConfigError(f"journal {shown(place)}: {error}") from error
    return store_at(place)


def shown(place: str) -> str:
    """A place without a password, for messages."""
    try:
        return make_url(place).render_as_string() if is_database(place) else place
    except (ArgumentError, ValueError):
        return "at an address that cannot be read"


def _require_file(url: URL) -> None:
    """Raise OSError unless an SQLite database is a plain file, in memory, or spelt as SQLite's own URI."""
    file = url.database if url.get_backend_name() == "sqlite" else None
    if file and file != ":memory:" and not file.startswith("file:"):
        open_plain(Path(file)).close()
