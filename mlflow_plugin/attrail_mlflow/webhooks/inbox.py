"""The inbox of webhooks: which deliveries were seen, and which versions an audit must still be started for.

A file of SQLite's, so that a crash loses nothing that was acknowledged, and several processes may share it.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attrail_mlflow.webhooks.delivery import Delivery

TABLES = """
CREATE TABLE IF NOT EXISTS deliveries (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS versions (
    name TEXT, version TEXT, source TEXT, started INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (name, version, source)
);
"""
Version = tuple[str, str, str]


@dataclass(frozen=True)
class Inbox:
    """The inbox in a file; a version is its name, number and source, since a deleted number can come again."""

    path: Path

    def create(self) -> None:
        """Make the tables in the file if they are not there."""
        with self._connection() as connection:
            connection.executescript(TABLES)

    def take(self, delivery: Delivery, version: Version) -> bool:
        """Keep a delivery about a version; False when the delivery or the version was known already."""
        with self._connection() as connection:
            fresh = connection.execute("INSERT OR IGNORE INTO deliveries VALUES (?)", (delivery.id,)).rowcount
            put = "INSERT OR IGNORE INTO versions (name, version, source) VALUES (?, ?, ?)"
            return bool(connection.execute(put, version).rowcount and fresh)

    def waiting(self) -> list[Version]:
        """The versions no audit was started for, in the order they came in."""
        with self._connection() as connection:
            query = "SELECT name, version, source FROM versions WHERE started = 0 ORDER BY rowid"
            return [(str(name), str(version), str(source)) for name, version, source in connection.execute(query)]

    def started(self, version: Version) -> None:
        """Say that the audit of a version was started."""
        with self._connection() as connection:
            set_ = "UPDATE versions SET started = 1 WHERE name = ? AND version = ? AND source = ?"
            connection.execute(set_, version)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=20)
        try:
            with connection:
                yield connection
        finally:
            connection.close()
