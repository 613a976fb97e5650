"""Entries that are removed from a gallery in a folder, and when they are gone from the disk."""

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

pytest.importorskip("pymilvus")

from retrieval import Gallery, Metadata
from tests.retrieval.gallery_changes import MODELS, features_of, held_by

GONE = [f"somebody {i}" for i in range(40)]
STAY = [f"other {i}" for i in range(40)]


def traces(folder: Path) -> set[str]:
    """The traces of removed entries in any file: 'keys', 'names', 'features'."""
    found = set()
    features = features_of(GONE, [1] * len(GONE))
    for path in filter(Path.is_file, folder.rglob("*")):
        contents = [path.read_bytes()]
        if path.suffix == ".parquet":  # it is compressed
            table = pyarrow.parquet.read_table(path)
            contents += [str(table.to_pydict()).encode()]
            if "feature" in table.column_names:
                contents.append(np.array(table["feature"].to_pylist(), dtype=np.float32).tobytes())
        for content in contents:
            found |= {"keys"} if b"somebody" in content else set()
            found |= {"names"} if b"Irmgard" in content else set()
            found |= {"features"} if any(row.tobytes() in content for row in features) else set()
    return found


@pytest.fixture(params=["flat", "hnsw"])
def address(request, tmp_path):
    """The address of a gallery of 80 entries, of which 40 are to be removed."""
    with Gallery.create(tmp_path / "gallery.db", MODELS, index=request.param) as gallery:
        for keys, name in ((GONE, "Irmgard"), (STAY, "anna")):
            gallery.add(features_of(keys, [1] * 40), keys, [Metadata(identity=name)] * 40)
    return tmp_path / "gallery.db"


def test_compacting_erases_what_is_removed(address):
    assert traces(address) == {"keys", "names", "features"}
    with Gallery.open(address, MODELS) as gallery:
        assert gallery.remove(GONE) == 40
        # Nothing finds them any more, and the files still hold them.
        assert gallery.known(GONE) == set() and traces(address) == {"keys", "names", "features"}
        gallery.compact()
        assert traces(address) == set()
        assert sorted(held_by(gallery)) == sorted(STAY)
    assert traces(address) == set()
    with Gallery.open(address, MODELS) as gallery:
        assert sorted(held_by(gallery)) == sorted(STAY)
    assert traces(address) == set()


def test_compacting_erases_what_is_replaced(address):
    with Gallery.open(address, MODELS) as gallery:
        gallery.add(features_of(GONE, [2] * 40), GONE, [Metadata(identity="anna")] * 40)
        assert "names" in traces(address)
        gallery.compact()
        assert traces(address) == {"keys"}
