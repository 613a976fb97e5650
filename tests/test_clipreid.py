"""The face of the library, `import clipreid`."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import clipreid
from config import cfg_base
from config.load import load_config
from datasets import test_transform as plain_transform
from model import load_text_search_model, make_model
from retrieval import evaluate_text_search
from tests import toys
from tests.docs.reading import save_people
from tools import extract


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """The README's folder of own images."""
    return save_people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def weights(toy_towers, tmp_path_factory):
    settings = toys.MODEL | {"INPUT.SIZE_TRAIN": "[64, 32]", "MODEL.SIE_CAMERA": True}
    model = make_model(load_config(cfg_base, "", toys.words(settings)), 2, 2, 1)
    path = tmp_path_factory.mktemp("weights") / "toy-vit_60.pth"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def model(weights):
    return clipreid.load_model(weights, device="cpu", size=(64, 32))


@pytest.fixture(scope="module")
def text_model(toy_towers, tmp_path_factory):
    path = toys.save_text_model(tmp_path_factory.mktemp("weights") / "toy_1.pth")
    return clipreid.load_text_model(path, device="cpu")


def test_it_is_imported_quickly(repository):
    code = "import clipreid, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True)
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = clipreid.other
    assert all(hasattr(clipreid, name) for name in clipreid.__all__)


def test_paths_pictures_and_records_have_the_features_of_the_tool(model, people, weights, tmp_path):
    query = clipreid.read_dataset("folder", people).query
    paths = [record.path for record in query]
    options = ["--size", "64", "32", "--workers", "0", "--device", "cpu", "--out", str(tmp_path / "a.npz")]
    extract.main(["--weight", str(weights), "--images", str(people / "query"), *options])
    expected = clipreid.FeatureSet.load(tmp_path / "a.npz").normalized()
    records, named = model.encode_image(query), model.encode_image(paths, batch_size=1)
    pictures = model.encode_image([Image.open(path) for path in paths])
    assert named.paths == records.paths == expected.paths and len(set(pictures.paths)) == len(paths)
    for found in (records, pictures):
        assert torch.equal(found.features, expected.features)
    # A product of one row rounds differently.
    torch.testing.assert_close(named.features, expected.features, atol=1e-6, rtol=0)
    assert records.pids.tolist() == [0, 1] and named.pids.tolist() == pictures.camids.tolist() == [-1, -1]


def test_odd_images_have_the_features_of_plain_ones(model, tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (64, 32), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(grey).save(tmp_path / "plain.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(np.ascontiguousarray(np.rot90(grey))).save(tmp_path / "turned.png", exif=exif)
    paths = [tmp_path / name for name in ("plain.png", "deep.png", "turned.png")]
    for images in (paths, [Image.open(path) for path in paths]):
        plain, deep, turned = model.encode_image(images).features
        # Not to the bit: rows of a batch may be summed in another order.
        torch.testing.assert_close(torch.stack([deep, turned]), torch.stack([plain, plain]))


def test_precision_is_a_choice(model, people):
    paths = [record.path for record in clipreid.read_dataset("folder", people).query]
    whole, half = (model.encode_image(paths, amp=amp).features for amp in ("off", "bf16"))
    assert torch.equal(whole, model.encode_image(paths).features) and not torch.equal(whole, half)
    torch.testing.assert_close(half, whole, atol=0.03, rtol=0)


def test_ranking(model, people, tmp_path):
    dataset = clipreid.read_dataset("folder", people, "DATASETS.SUBJECT", "dog", train=False)
    assert dataset.subject == "dog" and not dataset.train
    query, gallery = model.encode_image(dataset.query), model.encode_image(dataset.gallery)
    assert clipreid.evaluate(query, gallery).num_valid == 2
    page = clipreid.draw_ranking(query, gallery, tmp_path / "a/b", top=1)
    assert "carla_c1_01.jpg" in page.read_text() and page.with_suffix(".png").stat().st_size
    unknown = model.encode_image([record.path for record in dataset.query])
    assert "identity not known" in clipreid.draw_ranking(unknown, gallery, tmp_path).read_text()


@pytest.mark.parametrize("choice", ["auto", "stored"])
def test_own_images_are_treated_as_by_the_programs(model, tmp_path, caplog, choice):
    """Deep grey, labels as written, orientation, and what is not read."""
    grey = np.random.default_rng(0).integers(0, 256, (64, 32), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = 3
    for split in ("train", "query", "gallery"):
        for folder in ("машина35", "005", "5"):
            (tmp_path / split / folder).mkdir(parents=True)
            deep = Image.fromarray(grey.astype(np.uint16) * 257)
            deep.save(tmp_path / split / folder / "a_c01.png", exif=exif if split == "query" else None)
    (tmp_path / "query" / "5" / "b.heic").touch()
    people = clipreid.read_dataset("folder", tmp_path, "INPUT.ORIENTATION", choice)
    assert "b.heic" in caplog.text and "'5' ≠ '005'" in caplog.text
    assert len({record.pid for record in people.query}) == 3
    query = model.encode_image(people.query, upright=people.upright)
    gallery = model.encode_image(people.gallery, upright=people.upright)
    plain = model.encode_image([Image.fromarray(grey[::-1, ::-1] if people.upright else grey)])
    torch.testing.assert_close(query.features, plain.features.expand(3, -1), atol=1e-6, rtol=0)
    page = clipreid.draw_ranking(query, gallery, tmp_path, upright=people.upright).read_text()
    assert "id машина35" in page and "id 005" in page and "cam c01" in page


def test_what_is_no_list_of_images(model, people):
    with pytest.raises(ValueError, match="images is a str"):
        model.encode_image(str(people))
    with pytest.raises(FileNotFoundError, match=r"no\.jpg"):
        model.encode_image(["no.jpg"])


def test_sentences_find_images(text_model, people, tmp_path):
    dataset = clipreid.read_dataset("folder", people)
    images = text_model.encode_image(dataset.gallery)
    texts = text_model.encode_text(["A man, in red.", "somebody else"], batch_size=1)
    for features in (images, texts):
        torch.testing.assert_close(features.features.norm(dim=1), torch.ones(len(features)))
    assert texts.keys == ("A man, in red.", "somebody else") and texts.pids.tolist() == [-1, -1]
    assert list(texts.names.items.values()) == list(texts.keys)
    page = clipreid.draw_ranking(texts, images, tmp_path, top=2).read_text()
    assert "A man, in red." in page and "identity not known" in page
    other = clipreid.draw_ranking(images, texts, tmp_path / "other", queries=[0], top=2).read_text()
    assert "somebody else" in other and "gallery of 2 texts" in other


def test_images_of_a_text_model_have_the_features_of_its_tower(text_model, people):
    query = clipreid.read_dataset("folder", people).query
    loaded, info = load_text_search_model(text_model.info.path)
    transform = plain_transform(info.size, info.mean, info.std, interpolation=info.resize)
    with torch.no_grad():
        wanted = loaded.encode_image(
            torch.stack([transform(Image.open(each.path).convert("RGB")) for each in query])
        )
    wanted = torch.nn.functional.normalize(wanted)
    torch.testing.assert_close(text_model.encode_image(query).features, wanted, atol=1e-5, rtol=0)
    pictures = text_model.encode_image([Image.open(each.path) for each in query])
    torch.testing.assert_close(pictures.features, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("swapped", [False, True])
def test_captions_with_identities_are_evaluated(text_model, people, swapped):
    """The own image is no copy of a caption, although the caption names its path."""
    gallery = clipreid.read_dataset("folder", people).gallery
    captions = [
        clipreid.CaptionRecord(each.path, each.pid, f"caption {n}", "", f"{each.path}#{n}")
        for n, each in enumerate(gallery)
    ]
    texts, images = text_model.encode_text(captions), text_model.encode_image(gallery)
    query, gallery = (images, texts) if swapped else (texts, images)
    found = clipreid.evaluate(query, gallery)
    wanted = evaluate_text_search(query.features, gallery.features, query.pids, gallery.pids)
    assert (found.mAP, found.mINP, found.num_valid) == (wanted.mAP, wanted.mINP, wanted.num_valid)
    assert (
        found.cmc.tolist()
        == wanted.cmc.tolist()
        == clipreid.evaluate(query, gallery, rule="all").cmc.tolist()
    )
    assert found.num_valid == len(query)


def test_what_is_no_list_of_sentences(text_model):
    with pytest.raises(ValueError, match="texts is a str"):
        text_model.encode_text("a man")
    with pytest.raises(ValueError, match="no words"):
        text_model.encode_text(["a man", ""])


def test_models_of_the_other_kind_are_refused(weights, text_model):
    with pytest.raises(ValueError, match="re-id"):
        clipreid.load_text_model(weights)
    with pytest.raises(ValueError, match="re-id"):
        clipreid.load_model(text_model.info.path)


def test_a_gallery_grows_and_is_searched(model, text_model, people, tmp_path):
    pytest.importorskip("pymilvus")
    gallery = clipreid.read_dataset("folder", people).gallery
    images, spaces = [record.path for record in gallery], {"reid": model.space_model}
    with clipreid.Gallery.create(tmp_path / "people.db", spaces) as found:
        facts = [{"identity": record.texts.identity, "camera": record.texts.camera} for record in gallery]
        found.add(model.encode_image(images).features, images, facts)
        ((hit,),) = found.search(model.encode_image(images[1:2]).features, k=1)
        assert (hit.key, hit.metadata.identity, hit.distance) == (
            images[1],
            "dora",
            pytest.approx(0, abs=1e-5),
        )
    with pytest.raises(ValueError, match="another gallery"):
        clipreid.Gallery.open(tmp_path / "people.db", {"reid": text_model.space_model})


def test_fingerprints_change_with_what_changes_features(model, weights):
    same = clipreid.load_model(weights, device="cpu", size=(64, 32))
    others = [
        clipreid.load_model(weights, device="cpu", size=(64, 32), **other)
        for other in ({"neck_feature": "after"}, {"mean": (0.1, 0.2, 0.3)}, {"sie_scale": 2.0})
    ]
    assert same.space_model == model.space_model
    assert len({each.space_model.sha256 for each in [same, *others]}) == 4
