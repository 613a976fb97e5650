import logging
import os
import shutil

import pytest

from datasets import ImageRecord, verify_images


@pytest.fixture
def records(tmp_path, save_image):
    names = [f"{i}.{suffix}" for i in range(4) for suffix in ("jpg", "png")]
    return [ImageRecord(str(save_image(tmp_path / name, (40, 90))), 0, 0, 0) for name in names]


@pytest.mark.parametrize("workers", [0, 3])
def test_good_images_pass_without_a_bar_in_a_pipe(records, workers, capfd):
    verify_images(records, workers)
    assert capfd.readouterr() == ("", "")


def test_missing_files_are_counted_and_the_first_named(records):
    missing = [record._replace(path=f"{record.path}.gone") for record in records[:7]]
    with pytest.raises(
        FileNotFoundError, match=r"^7 of 15 image files are missing: .*, and 2 more$"
    ) as error:
        verify_images([*records, *missing], 2)
    named = str(error.value).split("missing: ")[1]
    assert named.split(", ")[:5] == [record.path for record in missing[:5]]


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("keep", [0, 30, -30])
def test_a_truncated_file_is_named(records, index, keep):
    with open(records[index].path, "rb+") as file:
        file.truncate(keep if keep >= 0 else len(file.read()) + keep)
    with pytest.raises(ValueError, match=r"^1 of 8 image files are damaged: ") as error:
        verify_images(records, 2)
    assert records[index].path in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_image_is_named(records):
    with open(records[3].path, "w") as file:
        file.write("<html>not found</html>")
    with pytest.raises(
        ValueError, match=r"damaged: .*cannot be read as an image: cannot identify image file"
    ):
        verify_images(records, 2)


def test_few_bad_files_are_left_to_be_skipped_with_a_warning(save_image, tmp_path, caplog):
    path = str(save_image(tmp_path / "good.jpg", (40, 90)))
    many = [ImageRecord(str(shutil.copy(path, tmp_path / f"{i}.jpg")), 0, 0, 0) for i in range(200)]
    os.remove(many[5].path)
    with open(many[7].path, "w") as file:
        file.write("no image")
    with caplog.at_level(logging.WARNING, logger="transreid.datasets"):
        verify_images(many, 2, skip=True)
    assert [record.getMessage().split(" will")[0] for record in caplog.records] == [
        "1 of 200 image files are missing and",
        "2 of 200 image files are missing or damaged and",
    ]
    for record in many[10:13]:
        os.remove(record.path)
    with pytest.raises(FileNotFoundError, match=r"^4 of 200 image files are missing"):
        verify_images(many, 2, skip=True)
