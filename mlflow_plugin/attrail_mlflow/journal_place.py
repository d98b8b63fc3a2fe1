"""The place of a journal: a file's path, or the address of a database that holds one."""

from pathlib import Path

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from attrail_explainers.errors import ConfigError
from attrail_explainers.plain_file import open_plain
from attrail_mlflow.journal import Store
from attrail_mlflow.journal_file import JournalFile
from attrail_mlflow.journal_table import JournalTable


def is_database(place: str) -> bool:
    """Whether a place is a database's address, as ``postgresql://host/mlflow``."""
    return "://" in place


def store_at(place: str) -> Store:
    """The store of the journal at a place.

    Raises ConfigError when it names no kind of database that is installed, or an SQLite file that is not there:
    opening it would make an empty one.
    """
    if not is_database(place):
        return JournalFile(Path(place))
    try:
        engine = create_engine(place)
        _require_file(engine)
        return JournalTable(engine)
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError, OSError) as error:
        raise ConfigError(f"journal {shown(place)}: {error}") from error


def shown(place: str) -> str:
    """A place without a password, for messages."""
    try:
        return make_url(place).render_as_string() if is_database(place) else place
    except (ArgumentError, ValueError):
        return "at an address that cannot be read"


def _require_file(engine: Engine) -> None:
    """Nothing, when an SQLite database is a plain file, in memory, or spelt as SQLite's own URI; OSError otherwise."""
    file = engine.url.database if engine.dialect.name == "sqlite" else None
    if file and file != ":memory:" and not file.startswith("file:"):
        open_plain(Path(file)).close()
