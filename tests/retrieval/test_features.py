"""FeatureSet: what it accepts and refuses, choosing images, normalising, and the file."""

import dataclasses

import numpy as np
import pytest
import torch

from retrieval import FeatureSet, LabelNames, RetrievalTask


def three_images(**changes):
    fields = {
        "features": torch.tensor([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]]),
        "pids": torch.tensor([7, 0, 7]),
        "camids": torch.tensor([0, 5, -1]),
        "paths": ["a/x.jpg", "a/ü y.jpg", "b.png"],
    }
    return FeatureSet(**(fields | changes))


def test_takes_arrays_and_lists_and_gives_tensors():
    images = three_images(
        features=np.eye(3, 5),
        pids=np.array([1, 2, 3], dtype=np.int32),
        camids=[0, 1, -1],
        paths=np.array(["a", "b", "c"]),
    )
    assert len(images) == 3
    assert images.features.shape == (3, 5) and images.features.dtype == torch.float64
    assert images.pids.tolist() == [1, 2, 3] and images.pids.dtype == torch.int64
    assert images.camids.tolist() == [0, 1, -1] and images.camids.dtype == torch.int64
    assert images.paths == ("a", "b", "c")


def test_may_be_empty():
    assert len(FeatureSet(torch.zeros(0, 4), [], [], [])) == 0


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        three_images().features = torch.zeros(3, 2)


def test_different_lengths_are_named():
    with pytest.raises(ValueError, match="features 3, pids 2, camids 3, paths 4"):
        three_images(pids=[1, 2], paths=["a", "b", "c", "d"])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"features": torch.zeros(3)}, r"\(N, D\) matrix.*got shape \(3,\)"),
        ({"features": torch.zeros(3, 2, 2)}, r"got shape \(3, 2, 2\)"),
        ({"features": torch.zeros(3, 2, dtype=torch.int64)}, "torch.int64"),
        ({"features": torch.zeros(3, 2, dtype=torch.bfloat16)}, "torch.bfloat16"),
        ({"pids": [1.0, 2.0, 3.0]}, r"pids must be \(N,\) integers.*torch.float32"),
        ({"camids": [True, False, True]}, "camids must be.*torch.bool"),
        ({"camids": [[1, 2, 3]]}, r"camids must be.*\(1, 3\)"),
        ({"paths": "abc"}, "the one str 'abc'"),
        ({"keys": "abc"}, "keys must be .* the one str 'abc'"),
        ({"keys": ["a"]}, "one length, got .*keys 1"),
        ({"pictures": ["a"]}, "one length, got .*pictures 1"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        three_images(**changes)


@pytest.mark.parametrize("indices", [[2, 0, 2], torch.tensor([2, 0, 2]), np.array([2, 0, 2])])
def test_select_takes_all_fields_in_order(indices):
    chosen = three_images().select(indices)
    assert chosen.features.tolist() == [[-1.0, 0.0], [3.0, 4.0], [-1.0, 0.0]]
    assert chosen.pids.tolist() == [7, 7, 7]
    assert chosen.camids.tolist() == [-1, 0, -1]
    assert chosen.paths == ("b.png", "a/x.jpg", "b.png")


def test_items_of_one_file_are_told_apart_by_keys(tmp_path):
    fields = {"paths": ["a.jpg", "a.jpg", "b.jpg"], "keys": ["a.jpg#0", "a.jpg#1", "b.jpg"]}
    pictures = ["x", "x", ""]
    items = three_images(**fields, pictures=pictures)
    items.save(tmp_path / "items.npz")
    loaded = FeatureSet.load(tmp_path / "items.npz")
    for same in (items, items.with_cameras([1, 2, 3]), items.normalized(), loaded):
        assert same.keys == tuple(fields["keys"]) and same.pictures == tuple(pictures)
        chosen = same.select([2, 1])
        assert chosen.keys == ("b.jpg", "a.jpg#1") and chosen.paths == ("b.jpg", "a.jpg")
        assert chosen.pictures == ("", "x")


def test_keys_are_paths_and_pictures_have_no_names_unless_given(tmp_path):
    images = three_images()
    assert images.keys == images.paths and images.pictures == ("", "", "")
    images.save(tmp_path / "images.npz")
    with np.load(tmp_path / "images.npz") as stored:
        assert stored["keys"].tolist() == list(images.paths) and "pictures" not in stored
        former = {name: stored[name] for name in stored if name != "keys"}
    np.savez(tmp_path / "former.npz", **former)
    assert FeatureSet.load(tmp_path / "former.npz").keys == images.paths


def test_pictures_are_named_where_they_have_no_name(monkeypatch):
    monkeypatch.setattr("retrieval.features.name_pictures", lambda paths: [f"of {path}" for path in paths])
    images = three_images(camids=[-1, 0, -1], pictures=["known", "", ""])
    assert images.with_pictures().pictures == ("known", "", "of b.png")
    assert images.with_pictures(torch.tensor([True, True, False])).pictures == ("known", "of a/ü y.jpg", "")


def test_select_by_mask_and_nothing():
    images = three_images()
    assert images.select(images.pids == 7).paths == ("a/x.jpg", "b.png")
    assert len(images.select([])) == 0


@pytest.mark.parametrize(
    "indices, message",
    [
        ([0, 3], r"index 3 is outside 0\.\.2"),
        ([-1], r"index -1 is outside 0\.\.2"),
        ([True, False], r"mask needs shape \(3,\), got \(2,\)"),
        ([0.0], r"indices must be \(N,\) integers"),
    ],
)
def test_select_refuses(indices, message):
    with pytest.raises(ValueError, match=message):
        three_images().select(indices)


def test_normalized_rows_have_norm_one_and_the_rest_stays():
    images = three_images()
    unit = images.normalized()
    torch.testing.assert_close(unit.features, torch.tensor([[0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]]))
    assert unit.paths == images.paths and unit.pids is images.pids
    assert images.features[0, 0] == 3.0  # the set itself is left alone


def test_normalized_half_precision_does_not_overflow():
    unit = FeatureSet(torch.full((1, 4), 30000.0, dtype=torch.float16), [0], [0], ["a"]).normalized()
    assert unit.features.dtype == torch.float16
    assert unit.features.tolist() == [[0.5, 0.5, 0.5, 0.5]]


@pytest.mark.parametrize(
    "row, norm", [([0.0, 0.0], "0.0"), ([float("nan"), 1.0], "nan"), ([1.0, float("-inf")], "inf")]
)
def test_normalized_names_the_row_that_has_no_norm(row, norm):
    with pytest.raises(ValueError, match=rf"row 1 \(a/ü y.jpg\): its L2 norm is {norm}"):
        three_images(features=torch.tensor([[1.0, 0.0], row, [0.0, 0.0]])).normalized()


@pytest.mark.parametrize("name", ["set.npz", "set.features"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_file_round_trip(tmp_path, name, dtype):
    images = three_images(features=torch.randn(3, 2).to(dtype).requires_grad_())
    images.save(tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    again = FeatureSet.load(tmp_path / name)
    assert torch.equal(again.features, images.features) and again.features.dtype == dtype
    assert torch.equal(again.pids, images.pids) and torch.equal(again.camids, images.camids)
    assert again.paths == images.paths


def test_empty_file_round_trip(tmp_path):
    FeatureSet(torch.zeros(0, 4), [], [], []).save(tmp_path / "none.npz")
    again = FeatureSet.load(tmp_path / "none.npz")
    assert again.features.shape == (0, 4) and again.paths == ()


def test_names_are_saved_with_the_items(tmp_path):
    names = LabelNames(identities={0: "anna"}, items={"a man": "a man"})
    texts = FeatureSet(torch.ones(1, 2), [0], [-1], ["a man"], names=names)
    texts.save(tmp_path / "texts.npz")
    assert FeatureSet.load(tmp_path / "texts.npz").names == names
    assert RetrievalTask.load(tmp_path / "texts.npz").names == names


def test_load_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.npz: no such file"):
        FeatureSet.load(tmp_path / "gone.npz")


def write_text(path):
    path.write_text("not a zip")


def write_nothing(path):
    path.write_bytes(b"")


def write_one_array(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros((2, 2)))


def write_without_paths(path):
    np.savez(path, features=np.zeros((1, 2)), pids=[0], camids=[0])


def write_unequal(path):
    np.savez(path, features=np.zeros((1, 2)), pids=[0], camids=[0], paths=["a", "b"])


def write_pickle(path):
    np.savez(path, features=np.zeros((1, 2)), pids=[0], camids=[0], paths=np.array(["a"], dtype=object))


def write_cut_off(path):
    three_images().save(path)
    path.write_bytes(path.read_bytes()[:-60])


@pytest.mark.parametrize(
    "write",
    [
        write_text,
        write_nothing,
        write_one_array,
        write_without_paths,
        write_unequal,
        write_pickle,
        write_cut_off,
    ],
)
def test_load_refuses_other_files(tmp_path, write):
    path = tmp_path / "other.npz"
    write(path)
    with pytest.raises(ValueError, match=r"other\.npz is not a feature file") as error:
        FeatureSet.load(path)
    assert "\n" not in str(error.value)
