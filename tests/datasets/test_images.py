import pytest
from PIL import Image

from datasets import ImageDataset, ImageRecord, read_image


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (5, 7), (255, 255, 255)).convert(mode).save(path)
    image = read_image(str(path))
    assert (image.mode, image.size, image.getpixel((2, 2))) == ("RGB", (5, 7), (255, 255, 255))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg: no such image file$"):
        read_image(str(tmp_path / "nowhere.jpg"))


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.6])
def test_a_truncated_file_is_named_in_one_line(tmp_path, save_image, suffix, keep):
    path = save_image(tmp_path / f"cut.{suffix}", size=(64, 128))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ValueError, match=rf"^.*cut\.{suffix}: cannot be read as an image: .+$") as error:
        read_image(str(path))
    assert "\n" not in str(error.value)


def test_image_dataset_items_are_transformed_image_and_record(tmp_path, save_image):
    records = [
        ImageRecord(str(save_image(tmp_path / f"{i}.png", size=(4 + i, 9))), i, 0, 0) for i in range(2)
    ]
    data = ImageDataset(records, lambda image: image.size)
    assert len(data) == 2
    assert data[1] == ((5, 9), records[1])
