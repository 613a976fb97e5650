import numpy as np
import pytest
import torch
from PIL import Image

from datasets import (
    Draw,
    ImageDataset,
    ImageRecord,
    PixelTransform,
    decode_image,
    read_image,
    resize_like_pil,
)
from datasets import test_transform as plain_transform

MODES = ["L", "RGBA", "P", "CMYK", "1"]
FORMS = {
    "rgb.jpg": ("RGB", {"quality": 90}),
    "fine.jpg": ("RGB", {"quality": 100, "subsampling": 0}),
    "grey.jpg": ("L", {}),
    "cmyk.jpg": ("CMYK", {}),
    "progressive.jpg": ("RGB", {"progressive": True, "quality": 40}),
    "rgb.png": ("RGB", {}),
    "palette.png": ("P", {}),
    "rgba.png": ("RGBA", {}),
    "rgb.bmp": ("RGB", {}),
    "rgb.webp": ("RGB", {}),
}


@pytest.fixture
def save_noise(tmp_path):
    """save_noise('grey.jpg', 128, 64) -> a file of that name and form with H x W random pixels."""

    def save(name, height, width):
        mode, options = FORMS[name]
        pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(tmp_path / name, **options)
        return str(tmp_path / name)

    return save


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (5, 7), (255, 255, 255)).convert(mode).save(path)
    image = read_image(str(path))
    assert (image.mode, image.size, image.getpixel((2, 2))) == ("RGB", (5, 7), (255, 255, 255))


@pytest.mark.parametrize("name", FORMS)
def test_decoded_pixels_are_those_of_read_image(save_noise, name):
    for height, width in ((128, 64), (37, 21), (1, 1), (17, 300)):
        path = save_noise(name, height, width)
        image = decode_image(path)
        assert image.dtype == torch.uint8 and image.shape == (3, height, width)
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(read_image(path)))


def test_pil_decodes_where_torchvision_has_no_decoders(save_noise, monkeypatch):
    path = save_noise("rgb.jpg", 16, 8)
    fast = decode_image(path)
    monkeypatch.setattr("torch.ops.image", torch.ops.no_such_namespace)
    assert torch.equal(decode_image(path), fast)


def test_jpeg_files_do_without_pil(save_noise, monkeypatch):
    path = save_noise("grey.jpg", 16, 8)
    monkeypatch.delattr(Image, "open")
    assert decode_image(path).shape == (3, 16, 8)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", ["rgb.jpg", "palette.png"])
def test_a_file_becomes_what_the_test_transform_makes_of_it(save_noise, name, interpolation):
    statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for source, size in (((128, 64), (256, 128)), ((181, 67), (256, 128)), ((50, 60), (224, 224))):
        path = save_noise(name, *source)
        item, *_ = ImageDataset([ImageRecord(path, 0, 0, 0)], size, interpolation=interpolation)[0]
        wanted = plain_transform(size, *statistics, interpolation=interpolation)(read_image(path))
        assert torch.equal(PixelTransform(*statistics)(item[None])[0], wanted)


def test_a_rotation_mark_is_left_alone(tmp_path, save_noise):
    picture = Image.open(save_noise("rgb.png", 8, 16))
    exif = Image.Exif()
    exif[274] = 6  # orientation: a quarter turn
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert decode_image(str(tmp_path / "turned.jpg")).shape == (3, 8, 16)


@pytest.mark.parametrize("read", [read_image, decode_image])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg: no such image file$"):
        read(str(tmp_path / "nowhere.jpg"))


@pytest.mark.parametrize("read", [read_image, decode_image])
@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
def test_a_truncated_file_is_named_in_one_line(tmp_path, save_image, suffix, read):
    path = save_image(tmp_path / f"cut.{suffix}", size=(64, 128))
    data = path.read_bytes()
    for keep in (0.6, 0.1, 0.0):
        path.write_bytes(data[: int(len(data) * keep)])
        with pytest.raises(ValueError, match=rf"^.*cut\.{suffix}: cannot be read as an image: .+$") as error:
            read(str(path))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["rgb.jpg", "grey.jpg", "cmyk.jpg", "progressive.jpg"])
def test_a_file_is_cut_off_for_both_readers_or_for_none(tmp_path, save_noise, name):
    path = save_noise(name, 24, 16)
    data = (tmp_path / name).read_bytes()
    for keep in [*range(0, len(data), 97), *range(len(data) - 6, len(data))]:
        (tmp_path / name).write_bytes(data[:keep])
        outcomes = []
        for read in (read_image, decode_image):
            try:
                outcomes.append(np.asarray(read(path)).reshape(3, -1).shape)
            except ValueError as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("read", [read_image, decode_image])
def test_a_folder_and_a_text_are_no_images(tmp_path, read):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "text.jpg").write_text("not an image")
    for name in ("folder.jpg", "text.jpg"):
        with pytest.raises(ValueError, match=rf"{name}: cannot be read as an image: "):
            read(str(tmp_path / name))


# ---- ImageDataset


@pytest.fixture
def records(tmp_path, save_image):
    return [ImageRecord(str(save_image(tmp_path / f"{i}.png", size=(4 + i, 9))), i, 0, 0) for i in range(2)]


def test_items_are_resized_image_and_record(records):
    data = ImageDataset(records, (12, 8), interpolation="bilinear")
    assert len(data) == 2
    image, record, seed = data[1]
    assert (record, seed) == (records[1], None)
    assert torch.equal(image, resize_like_pil(decode_image(record.path), (12, 8)))


def test_a_draw_asks_for_a_flipped_and_cropped_image(records):
    data = ImageDataset(records, (12, 8), interpolation="fast bicubic", padding=2)
    plain, (image, record, seed) = data[1][0], data[Draw(1, True, 4, 1, 23)]
    assert (record, seed) == (records[1], 23)
    assert torch.equal(image[:, :10, 1:], plain.flip(-1)[:, 2:, :7])
    assert not image[:, 10:].any() and not image[..., :1].any()


def test_the_items_of_a_batch_are_those_asked_for_one_by_one(records):
    data = ImageDataset(records, (12, 8), interpolation="fast bicubic", padding=2)
    keys = [1, Draw(0, True, 4, 1, 23), Draw(1, False, 0, 3, 24), 0]
    items = data.__getitems__(keys)
    assert [seed for *_, seed in items] == [None, 23, 24, None]
    for (image, *rest), key in zip(items, keys, strict=True):
        assert torch.equal(image, data[key][0]) and tuple(rest) == data[key][1:]


def test_cached_images_need_no_files():
    cached = torch.arange(36, dtype=torch.uint8).reshape(1, 3, 4, 3)
    record = ImageRecord("nowhere.jpg", 0, 0, 0)
    data = ImageDataset([record], (4, 3), interpolation="fast bicubic", padding=1)
    data.cached = cached
    assert data[0][1:] == (record, None) and torch.equal(data[0][0], cached[0])
    image, *rest = data[Draw(0, True, 1, 1, 23)]
    assert torch.equal(image, cached[0].flip(-1)) and rest == [record, 23]


def test_another_interpolation_is_refused():
    with pytest.raises(
        ValueError, match=r"^interpolation is 'nearest'; allowed: bilinear, bicubic, fast bicubic$"
    ):
        ImageDataset([], (4, 3), interpolation="nearest")
