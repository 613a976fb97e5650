"""A space of a gallery, a collection of Milvus: features of one model with the facts about their pictures."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from retrieval.store.connection import Connection
from retrieval.store.entries import (
    MAX_KEY,
    MAX_MORE,
    MAX_NAME,
    MAX_PATH,
    Hit,
    Metadata,
    SpaceModel,
    as_metadata,
    literal,
    literals,
)
from retrieval.store.lite import PREFIX
from utils.untrusted.forms import parse_json

FIELDS = ("key", *Metadata.model_fields)
FEATURE = "feature"
MOST_HITS = 16_384  # of a query, which a server sets
ROWS = 1000  # of one request
_FLUSH = 1024  # rows, after which Milvus Lite writes a segment: it searches rows in its log slowly
_QUERIES = 256  # of one request
_MODEL = "clipreid.model"  # the property of a collection that names its model
_SPARE = "_rewritten"  # ends the name of the collection that compaction writes
_DROPPED = "_dropped"  # ends the name of the collection that it has replaced
_LEAST_EF = 128  # candidates of a search in HNSW
_TEXTS = {"identity": MAX_NAME, "camera": MAX_NAME, "path": MAX_PATH, "picture": MAX_NAME, "more": MAX_MORE}
_INDEXES = {"flat": {}, "hnsw": {"M": 16, "efConstruction": 200}}
INDEXES = tuple(_INDEXES)
_logger = logging.getLogger("transreid.retrieval")


class Space:
    """An open space. Methods raise OSError, in one line, where the store fails."""

    def __init__(self, connection: Connection, name: str) -> None:
        """The space of that name, ready to be searched; its `model` is read from the store."""
        self.name = name
        self._connection = connection
        self._collection = _collection(name)
        self._unflushed = 0
        connection.when_open.append(self._recover)
        with connection.errors():
            self._recover()
            about = connection.client.describe_collection(self._collection)["properties"]
        where = f"gallery {connection.address}, space {name}"
        self.model = parse_json(about.get(_MODEL, "{}"), SpaceModel, where)

    @staticmethod
    def exists(connection: Connection, name: str) -> bool:
        """Whether there is such a space."""
        with connection.errors():
            names = set(connection.client.list_collections())
        return not names.isdisjoint((_collection(name), _collection(name) + _SPARE))

    @staticmethod
    def create(connection: Connection, name: str, model: SpaceModel, index: str) -> None:
        """Make an empty space for features of a model."""
        with connection.errors():
            _create(connection, _collection(name), model, index)

    @property
    def writing(self) -> threading.RLock:
        """Held by whoever writes; rows that are read under it are still the same when they are written."""
        return self._connection.writing

    @property
    def index(self) -> str:
        """'flat' or 'hnsw'; '' where a change of the index broke off."""
        with self._connection.errors(), self._connection.reading() as client:
            if not client.list_indexes(self._collection):
                return ""
            return client.describe_index(self._collection, FEATURE)["index_type"].lower()

    def count(self) -> int:
        """The number of entries."""
        return self._query("", ["count(*)"])[0]["count(*)"]

    def search(self, features: np.ndarray, k: int, where: str) -> list[list[Hit]]:
        """The k nearest entries of each of features (Q, D) of norm 1 that meet a condition."""
        found: list[list[Hit]] = []
        step = max(1, min(_QUERIES, MOST_HITS // k))
        for start in range(0, len(features), step):
            answers = self._read(
                "search",
                data=list(features[start : start + step]),
                filter=where,
                limit=k,
                output_fields=list(FIELDS),
                search_params={"metric_type": "IP", "params": {"ef": max(k, _LEAST_EF)}},
                anns_field=FEATURE,
            )
            found += [[_hit(answer) for answer in hits] for hits in answers]
        return found

    def rows(self, keys: Sequence[str], fields: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """The rows of those keys that are there."""
        for part in portions(keys):
            yield from self._query(f"key in {literals(part)}", fields)

    def rows_where(self, where: str, fields: Sequence[str]) -> list[Mapping[str, Any]]:
        """A portion of the rows that meet a condition."""
        return self._query(where, fields, limit=ROWS)

    def column(self, field: str) -> Iterator[tuple[str, Any]]:
        """The key of each row, and the value of a field that is short."""
        fields = ["key", field]
        # A page of Milvus Lite takes the time of all, so there is one.
        rows = self._query("", fields) if self._connection.embedded else self._pages(fields)
        yield from ((row["key"], row[field]) for row in rows)

    def scan(self, fields: Sequence[str], where: str = "") -> Iterator[Mapping[str, Any]]:
        """All rows that meet a condition, without those that are removed meanwhile."""
        if self._connection.embedded:
            yield from self.rows([row["key"] for row in self._query(where, ["key"])], fields)
        else:
            yield from self._pages(fields, where)

    def _pages(self, fields: Sequence[str], where: str = "") -> Iterator[Mapping[str, Any]]:
        """The same from a server, a page after the other."""
        # pymilvus has an iterator, which fails behind a key with quotes.
        last = ""
        while True:
            behind = " and ".join(filter(None, [f"key > {literal(last)}", where]))
            page = self._query(behind, fields, limit=ROWS, reduce_stop_for_best="True")
            if not page:  # one that is not full is not the last
                return
            yield from page
            last = max(row["key"] for row in page)

    def scan_portions(self, fields: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """The same in lists of up to a request's rows."""
        rows = self.scan(fields)
        while part := [
            {name: row[name] for name in fields} for _, row in zip(range(ROWS), rows, strict=False)
        ]:
            yield part

    def upsert(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store rows with all fields and features; those of the same keys are replaced."""
        for part in portions(rows):
            self._write(lambda p=part: self._connection.client.upsert(self._collection, list(p)), len(part))

    def delete(self, keys: Sequence[str]) -> None:
        """Remove the rows of these keys."""
        for part in portions(keys):
            where = f"key in {literals(part)}"
            self._write(lambda w=where: self._connection.client.delete(self._collection, filter=w), len(part))

    def set_index(self, index: str) -> None:
        """Search by another index."""
        self.flush()
        self._write(lambda: self._change_index(index))

    def flush(self) -> None:
        """Let an embedded store write what is in its log as a segment."""
        with self.writing:
            if self._unflushed:
                self._unflushed = 0
                # A search of Milvus Lite meanwhile finds rows neither in the log nor in the segment.
                with self._connection.exchanging():
                    self._write(lambda: self._connection.client.flush(self._collection))

    def compact(self) -> None:
        """Let nothing of rows that were removed or replaced stay on an embedded store's disk.

        All rows are written afresh into another collection, which takes the place of this one. A server is
        told to do so, and other clients go on writing meanwhile.
        """
        self.flush()
        self._write(self._rewrite if self._connection.embedded else self._compact_server)

    def _compact_server(self) -> None:
        client = self._connection.client
        client.flush(self._collection)
        client.compact(self._collection)

    def _rewrite(self) -> None:
        client, name = self._connection.client, self._collection
        _create(self._connection, name + _SPARE, self.model, self.index)
        for part in self.scan_portions([*FIELDS, FEATURE]):
            client.upsert(name + _SPARE, part)
        client.flush(name + _SPARE)
        with self._connection.exchanging():
            # To drop a collection takes several steps; to rename it is one.
            client.rename_collection(name, name + _DROPPED)
            self._make_ready()

    def _make_ready(self) -> None:
        """Load the collection for searches; ends what has broken off in it."""
        from pymilvus.exceptions import MilvusException

        client, name = self._connection.client, self._collection
        there = client.list_collections()
        if name not in there:  # compaction had written all
            client.rename_collection(name + _SPARE, name)
        for rest in {name + _SPARE, name + _DROPPED}.intersection(there):
            if name in there or rest.endswith(_DROPPED):
                client.drop_collection(rest)
        index = self.index
        if not index:
            _logger.warning("the index of space %s was not finished; it is searched exactly", self.name)
            self._change_index("flat")
        try:
            client.load_collection(name)
        except MilvusException as error:
            if not self._connection.embedded:
                raise
            _logger.warning("the index of space %s is damaged, and built again: %s", self.name, error)
            with suppress(MilvusException):  # a full disk; it is searched without, if it can be loaded
                self._change_index(index)
            client.load_collection(name)

    def _recover(self) -> None:
        """Make the collection ready when it is opened.

        A process that was killed between writing a segment and removing its log leaves rows in both, which
        would be found twice; they are written afresh.
        """
        self._make_ready()
        if not self._connection.has_log:
            return
        client, name = self._connection.client, self._collection
        counts = Counter(row["key"] for row in client.query(name, filter="", output_fields=["key"]))
        fields = [*FIELDS, FEATURE]
        for part in portions([key for key, count in counts.items() if count > 1]):
            rows = client.query(name, filter=f"key in {literals(part)}", output_fields=fields)
            client.upsert(name, [{field: row[field] for field in fields} for row in rows])

    def _change_index(self, index: str) -> None:
        client, name = self._connection.client, self._collection
        with self._connection.exchanging():
            client.release_collection(name)
            if client.list_indexes(name):
                client.drop_index(name, FEATURE)
            client.create_index(name, _index_params(self._connection, index))
            client.load_collection(name)

    def _query(self, where: str, fields: Sequence[str], **options: Any) -> list[Mapping[str, Any]]:
        return self._read("query", filter=where, output_fields=list(fields), **options)

    def _read(self, method: str, **options: Any) -> Any:
        """Call a method of the client that reads the collection."""
        with self._connection.errors(), self._connection.reading() as client:
            return getattr(client, method)(self._collection, consistency_level="Strong", **options)

    def _write(self, write: Callable[[], object], rows: int = 0) -> None:
        """Change the store by that number of rows. Raises OSError where it fails."""
        with self.writing:
            try:
                with self._connection.errors():
                    write()
            except OSError:
                # The log of an embedded store may end in half a row, behind which nothing is read again.
                if self._connection.embedded:
                    self._connection.reopen()
                raise
            if self._connection.embedded:
                self._unflushed += rows
                if self._unflushed >= _FLUSH:
                    self.flush()


def portions(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The items in parts of one request each."""
    for start in range(0, len(items), ROWS):
        yield items[start : start + ROWS]


def _collection(name: str) -> str:
    return f"{PREFIX}{name}"


def _create(connection: Connection, collection: str, model: SpaceModel, index: str) -> None:
    from pymilvus import DataType

    schema = connection.client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=MAX_KEY)
    schema.add_field(FEATURE, DataType.FLOAT_VECTOR, dim=model.width)
    schema.add_field("time", DataType.INT64)
    for text, most in _TEXTS.items():
        schema.add_field(text, DataType.VARCHAR, max_length=most)
    connection.client.create_collection(
        collection,
        schema=schema,
        index_params=_index_params(connection, index),
        consistency_level="Strong",  # a search sees all that is written
        properties={_MODEL: model.model_dump_json()},
    )


def _index_params(connection: Connection, index: str) -> Any:
    params = connection.client.prepare_index_params()
    # AUTOINDEX, the default, is not exact.
    params.add_index(FEATURE, index_type=index.upper(), metric_type="IP", params=_INDEXES[index])
    return params


def _hit(answer: Mapping[str, Any]) -> Hit:
    row = answer["entity"]
    return Hit(row["key"], float(answer["distance"]), as_metadata(row))
