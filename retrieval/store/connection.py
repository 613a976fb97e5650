"""A connection to Milvus: Milvus Lite, embedded in this process with its data in a folder, or a server.

pymilvus speaks to both. Here are addresses, the lock on a folder, and errors in one line.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from retrieval.store.lite import LOCK, clean_folder, collections_in, is_of_others
from utils.lock import locked
from utils.package import require_extra
from utils.text import one_line, printable

_SCHEMES = ("http://", "https://")
_ALLOWED = "allowed: a folder whose name ends in .db, or http://host:19530[/database] of a Milvus server"
_TIMEOUT = 10.0  # seconds, to reach a server
# Milvus Lite breaks off a call, such as the building of an index, in which a client asks whether it lives.
_PATIENT = {"grpc.keepalive_time_ms": 2**31 - 1}
_logger = logging.getLogger("transreid.retrieval")


class Connection:
    """An open connection; `embedded` where the data are in a folder, which no other process can then open.

    `writing` is held by the thread that writes; `when_open` is called when it has been opened afresh. What
    readers use is only exchanged within `exchanging`, when none of them is in `reading`.
    `has_log` says whether whoever had the folder before ended without writing all segments.
    """

    def __init__(self, address: str, *, create: bool) -> None:
        """Connect. Raises FileNotFoundError where there is nothing and `create` is False.

        ValueError for another form of address, BlockingIOError where another process has the folder, OSError
        where a server does not answer.
        """
        require_extra("index")
        # Loaders of images fork, and their processes do not use the connection.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        self.address = address
        self.embedded = not address.startswith(_SCHEMES)
        self._folder = Path(address).absolute()  # the program may change its folder
        if not self.embedded and urlsplit(address).username is not None:
            raise ValueError("a gallery's address has no user; allowed: MILVUS_TOKEN='user:password'")
        from fasteners import ReaderWriterLock

        self.writing = threading.RLock()
        self._in_use = ReaderWriterLock()
        self.when_open: list[Callable[[], None]] = []
        self.has_log = False
        self._stack = ExitStack()
        self._client: Any = None
        self._is_closed = False
        if self.embedded:
            self._check_folder(create=create)
            # Features identify people: only their user may read them, and may open the folder to others.
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            reason = self._stack.enter_context(locked(self._folder / LOCK))
            if reason:
                _logger.warning("%s is not locked against other processes: %s", address, reason)
        try:
            if create and not self.embedded:
                self._create_database()
            self.reopen()
        except BaseException:
            self._stack.close()
            raise

    def _check_folder(self, *, create: bool) -> None:
        folder = self._folder
        if folder.suffix != ".db":
            raise ValueError(f"gallery {printable(self.address)}; {_ALLOWED}")
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"gallery {printable(self.address)} is a file; {_ALLOWED}")
        try:
            str(folder).encode()
        except UnicodeEncodeError as error:  # Milvus Lite would find out when it first writes a file
            raise ValueError(f"gallery {printable(self.address)}: its path is no text in UTF-8") from error
        if not create and not collections_in(folder):
            raise FileNotFoundError(f"gallery {printable(self.address)} does not exist; create it first")
        if is_of_others(folder):
            raise ValueError(f"gallery {printable(self.address)} is a folder with other files; {_ALLOWED}")

    def _create_database(self) -> None:
        """Create the database of a server's address where it has one that is not there."""
        from pymilvus import MilvusClient

        parts = urlsplit(self.address)
        if name := parts.path.strip("/"):
            server = parts._replace(path="").geturl()
            with self.errors():
                client = MilvusClient(server, token=os.environ.get("MILVUS_TOKEN", ""), timeout=_TIMEOUT)
                try:
                    if name not in client.list_databases():
                        client.create_database(name)
                finally:
                    client.close()

    @property
    def client(self) -> Any:
        """The `MilvusClient` of pymilvus, whose own types are wrong. Raises ValueError once it is closed.

        Connects where `reopen` has failed before, and raises OSError as it does.
        """
        client = self._client
        if client is None:
            with self.writing:  # another thread may be opening it
                if self._is_closed:
                    raise ValueError(f"gallery {printable(self.address)} is closed")
                if self._client is None:
                    self.reopen()
                client = self._client
        return client

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """The client, which reads a collection that no other thread exchanges meanwhile.

        A search during an exchange may find nothing, and say nothing of it.
        """
        while True:
            client = self.client  # it may wait for a writer, which waits for readers
            with self._in_use.read_lock():
                if client is self._client:
                    yield client
                    return

    def exchanging(self) -> AbstractContextManager[Any]:
        """Held by the thread that writes while it exchanges a collection, an index or the client."""
        return self._in_use.write_lock()

    def reopen(self) -> None:
        """Connect, afresh if it was connected: what an embedded store has acknowledged is read from its log.

        Raises OSError.
        """
        from pymilvus import MilvusClient

        with self.exchanging():
            self._disconnect()
            if self.embedded:
                self.has_log = clean_folder(self._folder)
            _silence()
            try:
                with _reasons_of_lite() as reasons, self.errors(reasons):
                    uri = str(self._folder) if self.embedded else self.address
                    token = "" if self.embedded else os.environ.get("MILVUS_TOKEN", "")
                    options: dict[str, Any] = {"grpc_options": _PATIENT} if self.embedded else {}
                    self._client = MilvusClient(uri, token=token, timeout=_TIMEOUT, **options)
                    for prepare in self.when_open:
                        prepare()
            except BaseException:
                self._disconnect()
                raise

    @contextmanager
    def errors(self, reasons: list[str] | None = None) -> Iterator[None]:
        """Errors of Milvus become an OSError of one line; `reasons` are better ones, where there are any."""
        import grpc
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            reason = (reasons or [""])[-1] or getattr(error, "message", "") or str(error)
            raise OSError(f"gallery {printable(self.address)}: {one_line(reason)}") from error

    def close(self) -> None:
        """Disconnect, and let other processes open the folder."""
        with self.writing, self.exchanging():
            self._is_closed = True
            self._disconnect()
        self._stack.close()

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
            if self.embedded:
                from milvus_lite.server_manager import server_manager_instance

                server_manager_instance.release_server(str(self._folder))


def _silence() -> None:
    """Keep tracebacks of Milvus, of errors that are raised as well, from the terminal."""
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    lite = logging.getLogger("milvus_lite")
    lite.propagate = False
    if not lite.handlers:  # without one, Python prints what a logger does not pass on
        lite.addHandler(logging.NullHandler())


@contextmanager
def _reasons_of_lite() -> Iterator[list[str]]:
    """Why Milvus Lite cannot open a folder, which it logs and does not raise."""
    reasons: list[str] = []

    class Reasons(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1]:
                reasons.append(str(record.exc_info[1]))

    logger, handler = logging.getLogger("milvus_lite"), Reasons(logging.ERROR)
    logger.addHandler(handler)
    try:
        yield reasons
    finally:
        logger.removeHandler(handler)
