"""Galleries at an address: Milvus Lite in a folder, or the server in CLIPREID_TEST_MILVUS."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
import torch
from torch import Tensor

pytest.importorskip("pymilvus")

from retrieval import FeatureSet, Gallery, Metadata, SpaceModel

REID = SpaceModel(name="toy", sha256="a" * 64, width=8)
TEXT = SpaceModel(name="toy text", sha256="b" * 64, width=4)
NOON = datetime(2026, 5, 4, 12, tzinfo=timezone.utc)


@pytest.fixture
def gallery(address) -> Iterator[Gallery]:
    with Gallery.create(address, {"reid": REID}) as gallery:
        yield gallery


def rows(count: int, width: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def keys(found) -> list[str]:
    return [hit.key for hit in found]


def test_finds_the_nearest_first_with_what_is_known_of_them(gallery):
    features = rows(50)
    metadata = [Metadata(identity=f"p{i}", camera="gate", time=NOON, more={"n": i}) for i in range(50)]
    gallery.add(features * 3, [f"k{i}" for i in range(50)], metadata)
    (found,) = gallery.search(features[7], k=5)
    unit = torch.nn.functional.normalize(features)
    expected = (unit @ unit[7]).topk(5)
    assert keys(found) == [f"k{i}" for i in expected.indices.tolist()]
    torch.testing.assert_close(torch.tensor([hit.similarity for hit in found]), expected.values)
    assert found[0].metadata == metadata[7]
    assert found[0].metadata.time == NOON
    assert found[1].distance == pytest.approx(
        ((unit[7] - unit[expected.indices[1]]) ** 2).sum().item(), abs=1e-5
    )


def test_filters_by_camera_and_time(gallery):
    times = [NOON, NOON + timedelta(hours=1), NOON + timedelta(hours=2), None]
    cameras = ["hall", "gate", 'the "back" door', ""]
    metadata = [{"camera": camera, "time": time} for camera, time in zip(cameras, times, strict=True)]
    gallery.add(rows(4), ["a", "b", "c", "d"], metadata)
    query = rows(1, seed=1)

    def found(**options) -> set[str]:
        return set(keys(gallery.search(query, **options)[0]))

    assert found() == {"a", "b", "c", "d"}
    assert found(exclude_camera="hall") == {"b", "c", "d"}
    assert found(cameras=['the "back" door', "gate"]) == {"b", "c"}
    assert found(cameras=[""]) == {"d"}
    assert found(cameras=[]) == set()
    assert found(since=NOON + timedelta(hours=1)) == {"b", "c"}
    assert found(until=NOON + timedelta(hours=1)) == {"a", "b"}
    assert found(since=NOON, until=NOON) == {"a"}


def test_lists_entries_of_some(gallery):
    metadata = [{"identity": name, "camera": name * 2, "time": NOON} for name in ("a", "b", "", 'x"\\y')]
    gallery.add(rows(4), list("0123"), metadata)

    def listed(**options) -> str:
        return "".join(sorted(entry.key for entry in gallery.entries(**options)))

    assert listed() == listed(space="reid") == listed(since=NOON, until=NOON) == "0123"
    assert listed(identities=['x"\\y', "a"]) == "03"
    assert listed(identities=[""], cameras=[""]) == "2"
    assert listed(identities=["a"], cameras=["bb"]) == listed(until=NOON - timedelta(seconds=1)) == ""
    with pytest.raises(ValueError, match="identities is the one text 'a'"):
        listed(identities="a")


def test_says_nobody_beyond_a_threshold(gallery):
    features = torch.eye(8)
    gallery.add(features[:2], ["a", "b"])
    assert gallery.search(features, threshold=1.9)[2:] == [[]] * 6
    assert keys(gallery.search(features[0], threshold=1.9)[0]) == ["a"]
    assert len(gallery.search(features[0], threshold=2.0)[0]) == 2


def test_replaces_a_key_and_removes_it(gallery):
    gallery.add(torch.eye(8)[:2], ["a", "b"], [{"identity": "anna"}, {"identity": "ben"}])
    gallery.add(torch.eye(8)[5:6], ["a"], [{"identity": "carla"}])
    assert gallery.count() == 2
    assert gallery.search(torch.eye(8)[5], k=1)[0][0].metadata.identity == "carla"
    assert gallery.remove(["a", "zoe"]) == 1
    assert gallery.known(["a", "b"]) == {"b"}
    assert keys(gallery.search(torch.eye(8)[5])[0]) == ["b"]


def test_joins_spaces_by_key(address):
    with Gallery.create(address, {"reid": REID}) as gallery:
        gallery.add(rows(2), ["a", "b"], [{"identity": "anna"}, {"identity": "ben"}])
    with Gallery.create(address, {"text": TEXT}) as gallery:
        gallery.add(rows(2, 4), ["b", "c"], [{"identity": "ben"}, {}], space="text")
        assert gallery.spaces == ("reid", "text")
        assert sorted(entry.key for entry in gallery.entries()) == ["a", "b", "c"]
        assert gallery.rename("ben", "benedikt") == 1
        assert gallery.search(rows(2, 4)[0], k=1, space="text")[0][0].metadata.identity == "benedikt"
        assert gallery.get(["b"], "reid")[0].metadata.identity == "benedikt"
        assert gallery.remove(["b", "c"]) == 2
        assert [gallery.count(space) for space in gallery.spaces] == [1, 0]


def test_names_merge(gallery):
    gallery.add(rows(5), list("abcde"), [{"identity": name} for name in ("p1", "p1", "p2", "", "p3")])
    assert gallery.rename("p1", "Анна") == 2
    assert gallery.rename("p2", "Анна") == 1
    assert gallery.assign(["d"], "Анна") == 1
    assert gallery.identities() == {"p3": 1, "Анна": 4}
    with pytest.raises(KeyError, match="zoe"):
        gallery.assign(["a", "zoe"], "ben")
    assert gallery.identities() == {"p3": 1, "Анна": 4}


def test_stays_when_it_is_opened_again(address):
    with Gallery.create(address, {"reid": REID}) as gallery:
        gallery.add(rows(3), list("abc"))
    with Gallery.open(address, {"reid": REID}) as gallery:
        assert gallery.models == {"reid": REID}
        assert keys(gallery.search(rows(3)[2], k=1)[0]) == ["c"]


def test_refuses_another_model_and_none(address):
    other = REID.model_copy(update={"sha256": "c" * 64})
    Gallery.create(address, {"reid": REID}).close()
    with pytest.raises(ValueError, match=r"aaaaaaaaaaaa.*cccccccccccc"):
        Gallery.open(address, {"reid": other})
    with pytest.raises(ValueError, match="space reid already"):
        Gallery.create(address, {"reid": REID})
    with Gallery.open(address) as gallery:
        for use in (lambda: gallery.add(rows(1), ["a"]), lambda: gallery.search(rows(1))):
            with pytest.raises(ValueError, match="without the model of space reid"):
                use()
        with pytest.raises(ValueError, match="'text'; allowed: reid"):
            gallery.count("text")
        with pytest.raises(ValueError, match=r"aaaaaaaaaaaa.*cccccccccccc"):
            gallery.accept({"reid": other})
        gallery.accept({"reid": REID})
        gallery.add(rows(1), ["a"])
        assert gallery.count() == 1


@pytest.mark.parametrize(
    ("features", "names", "metadata", "message"),
    [
        (torch.ones(1, 7), ["a"], None, r"\(1, 7\); allowed: \(N, 8\)"),
        (torch.zeros(1, 8), ["a"], None, "row 0 has norm 0.0"),
        (torch.full((1, 8), torch.nan), ["a"], None, "row 0 has norm nan"),
        (torch.ones(2, 8), ["a"], None, "2 rows and keys 1"),
        (torch.ones(2, 8), ["a", "a"], None, "'a' is given twice"),
        (torch.ones(1, 8), ["a\n"], None, r"'a\\n'; allowed"),
        (torch.ones(1, 8), [""], None, "not empty"),
        (torch.ones(1, 8), ["ä" * 257], None, "512 bytes"),
        (torch.ones(1, 8), ["a"], [{"name": "anna"}], "'name'; allowed: identity"),
        (torch.ones(1, 8), ["a"], [{"identity": "an\x1bna"}], "identity"),
        (torch.ones(1, 8), ["a"], [{"time": "noon"}], "time"),
    ],
)
def test_refuses_what_it_cannot_keep(gallery, features, names, metadata, message):
    with pytest.raises(ValueError, match=message):
        gallery.add(features, names, metadata)
    assert gallery.count() == 0


@pytest.mark.parametrize("k", [0, 16_385, 2.5])
def test_refuses_a_number_of_hits(gallery, k):
    with pytest.raises(ValueError, match=f"k is {k}; allowed: 1 to 16,384"):
        gallery.search(rows(1), k)


@pytest.mark.parametrize("threshold", [-1, float("nan")])
def test_refuses_a_threshold_that_is_no_distance(gallery, threshold):
    with pytest.raises(ValueError, match=f"threshold is {threshold}; allowed: 0 or more"):
        gallery.search(rows(1), threshold=threshold)


def test_refuses_metadata_that_make_a_file_too_large(gallery, tmp_path, monkeypatch):
    monkeypatch.setattr("retrieval.store.files._MOST_METADATA", 4000)
    gallery.add(rows(2), ["a", "long"], [{}, {"more": {"note": "x" * 500}}])
    with pytest.raises(ValueError, match=r"'long' has \d+ characters; allowed in a file of 2 entries: 500"):
        gallery.export_features(tmp_path / "features.npz")


def test_writes_and_reads_feature_files(gallery, address, tmp_path):
    metadata = [
        Metadata(identity="anna", camera="hall", time=NOON, path="/a.jpg", picture="f" * 64, more={"x": [1]}),
        Metadata(identity="ben"),
    ]
    gallery.add(rows(2), ["a", "b"], metadata)
    file = tmp_path / "features.npz"
    assert gallery.export_features(file) == 2
    stored = FeatureSet.load(file)
    assert [stored.names.identity(pid) for pid in stored.pids.tolist()] == ["anna", "ben"]
    assert stored.camids.tolist() == [0, -1]
    gallery.remove(["a", "b"])
    assert gallery.import_features(file) == 2
    assert [entry.metadata for entry in gallery.get(["a", "b"])] == metadata
    torch.testing.assert_close(gallery.features(["a", "b"]), torch.nn.functional.normalize(rows(2)))


def test_refuses_the_feature_file_of_another_model(gallery, tmp_path):
    items = FeatureSet(rows(1), [3], [1], ["a.jpg"])
    items.save(tmp_path / "other.npz", {"model": "ViT", "model_sha256": "d" * 64})
    with pytest.raises(ValueError, match="another model, ViT"):
        gallery.import_features(tmp_path / "other.npz")


def test_another_index_finds_the_same(gallery):
    gallery.add(rows(300), [f"k{i}" for i in range(300)])
    exact = [keys(found) for found in gallery.search(rows(5, seed=1))]
    gallery.set_index("hnsw")
    assert gallery.indexes == {"reid": "hnsw"}
    assert gallery.recall(rows(5, seed=1)) > 0.9
    gallery.set_index("flat")
    assert gallery.recall(rows(5, seed=1)) == 1
    assert [keys(found) for found in gallery.search(rows(5, seed=1))] == exact


def test_compacting_keeps_what_is_there(gallery):
    gallery.add(rows(1200), [f"k{i}" for i in range(1200)], [{"identity": f"p{i % 7}"} for i in range(1200)])
    gallery.remove([f"k{i}" for i in range(600)])
    before = sorted(gallery.entries(), key=lambda entry: entry.key)
    gallery.compact()
    assert sorted(gallery.entries(), key=lambda entry: entry.key) == before
    assert len(before) == gallery.count() == 600
    assert keys(gallery.search(rows(1200)[900], k=1)[0]) == ["k900"]


def test_names_addresses_that_are_none(tmp_path):
    (tmp_path / "file.db").touch()
    for address, error in [
        (tmp_path / "gallery", ValueError),
        (tmp_path / "file.db", ValueError),
        (tmp_path / "none.db", FileNotFoundError),
        ("http://127.0.0.1:9", OSError),
    ]:
        with pytest.raises(error, match=str(address)):
            Gallery.open(address)
    assert not (tmp_path / "none.db").exists()


def test_shows_no_password_of_an_address():
    with pytest.raises(ValueError, match="MILVUS_TOKEN") as caught:
        Gallery.open("http://root:secret@127.0.0.1:9")
    assert "secret" not in str(caught.value)


def test_a_folder_belongs_to_one_at_a_time(tmp_path):
    address = tmp_path / "gallery.db"
    with (
        Gallery.create(address, {"reid": REID}),
        pytest.raises(BlockingIOError, match=r"in use by process \d+"),
    ):
        Gallery.open(address)
    Gallery.open(address).close()
