"""What the server keeps: JSON documents by kind and id in one SQLite file, with the whole set in memory."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

Document = dict[str, Any]
# `orphans` are executions that a second POST with a known run id started: no run of the API belongs to them.
KINDS = ("experiments", "pipelines", "versions", "runs", "orphans", "cache", "recurring")


class Store:
    """Thread-safe; a document is a dict that is replaced as a whole, never changed behind the store's back.

    Hold ``lock`` to look and then write without anybody in between.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()
        self._db = sqlite3.connect(file, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS documents (kind TEXT, id TEXT, body TEXT NOT NULL, PRIMARY KEY (kind, id))"
        )
        self._documents: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
        for kind, key, body in self._db.execute("SELECT kind, id, body FROM documents ORDER BY rowid"):
            self._documents[kind][key] = body

    def get(self, kind: str, key: str) -> Document | None:
        """A copy of the document, None when there is none."""
        with self.lock:
            body = self._documents[kind].get(key)
        return json.loads(body) if body is not None else None

    def all(self, kind: str) -> list[Document]:
        """Copies of all documents, in the order in which they were first put."""
        with self.lock:
            bodies = list(self._documents[kind].values())
        return [json.loads(body) for body in bodies]

    def put(self, kind: str, key: str, document: Document) -> None:
        """Keeps the document under the key."""
        body = json.dumps(document)
        with self.lock, self._db:
            self._db.execute(
                "INSERT INTO documents VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
                (kind, key, body),
            )
            self._documents[kind][key] = body

    def change(self, kind: str, key: str, change: Callable[[Document], None]) -> Document | None:
        """Applies a change to the document while nobody else can; returns it, None when there is none."""
        with self.lock:
            document = self.get(kind, key)
            if document is not None:
                change(document)
                self.put(kind, key, document)
            return document

    def delete(self, kind: str, key: str) -> None:
        """Forgets the document."""
        with self.lock, self._db:
            self._db.execute("DELETE FROM documents WHERE kind = ? AND id = ?", (kind, key))
            self._documents[kind].pop(key, None)

    def close(self) -> None:
        """Closes the file."""
        with self.lock:
            self._db.close()
