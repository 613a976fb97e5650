"""One picture in every form that files can have becomes the same RGB; every EXIF orientation is turned."""

import io
import struct
import zlib

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from datasets import ImageRecord, decode_image, inspect_files, read_image, to_rgb, verify_images

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # pytest sets filters of its own
GREY = np.random.default_rng(0).integers(0, 256, (6, 5), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (6, 5, 3), dtype=np.uint8)
MARK = np.zeros((4, 6, 3), np.uint8)  # no orientation leaves it as it is
MARK[0, 1:3], MARK[2:, 0] = (200, 30, 60), (20, 90, 250)
READERS = (read_image, lambda path, **options: decode_image(path, **options).permute(1, 2, 0))


def pixels(path, **options):
    """(H, W, 3) by both readers, which agree."""
    found = [np.asarray(read(str(path), **options)) for read in READERS]
    assert np.array_equal(*found) and found[0].dtype == np.uint8
    return found[0].astype(int)


def png(levels):
    """A PNG of 16 bits a channel from levels (H, W) or (H, W, C) of 8."""
    height, width, channels = np.atleast_3d(levels).shape
    rows = (levels.astype(">u2") * 257).reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    lines = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = [(b"IHDR", head), (b"IDAT", lines), (b"IEND", b"")]
    made = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def tiff(data, *, order="<", bits=16, kind=1, channels=1, photometric=1, planes=1):
    """An uncompressed TIFF of 5 x 6 pixels; `kind` is the sample format, `photometric` 0 means white is 0."""
    tags = [(256, 4, 5), (257, 4, 6), (259, 3, 1), (262, 3, photometric), (277, 3, channels), (278, 4, 6)]
    tags += [(279, 4, len(data)), (284, 3, planes), (339, 3, kind)]
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    depths = struct.pack(f"{order}{channels}H", *[bits] * channels)
    tags += [(258, 3, bits), (273, 4, start + len(depths))]
    entries = b""
    for tag, form, value in sorted(tags):
        field = struct.pack(order + "I", value) if form == 4 else struct.pack(order + "HH", value, 0)
        several = tag == 258 and channels > 1
        count, field = (channels, struct.pack(order + "I", start)) if several else (1, field)
        entries += struct.pack(order + "HHI", tag, form, count) + field
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(tags))
    return head + entries + bytes(4) + depths + data


def pnm(levels, most):
    kind = b"P5" if levels.ndim == 2 else b"P6"
    return kind + b"\n5 6\n%d\n" % most + (levels.astype(int) * most // 255).astype(">u2").tobytes()


def in_16_bits(levels, order="<"):
    return (levels.astype(np.uint16) * 257).astype(order + "u2").tobytes()


def packed_12_bits():
    bits = np.unpackbits((GREY.astype(np.uint16) << 4).astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[
        :, 4:
    ]
    return np.packbits(np.pad(bits.reshape(6, -1), ((0, 0), (0, 4))), axis=1).tobytes()


DEEP = {
    "png": png(GREY),
    "tiff, little endian": tiff(in_16_bits(GREY)),
    "tiff, big endian": tiff(in_16_bits(GREY, ">"), order=">"),
    "tiff, white is zero": tiff(in_16_bits(255 - GREY), photometric=0),
    "tiff, 12 bits": tiff(packed_12_bits(), bits=12),
    "pgm": pnm(GREY, 65535),
    "pgm, 10 bits": pnm(GREY, 1023),
    "png, colour": png(COLOUR),
    "png, colour and alpha": png(np.dstack([COLOUR, GREY])),
    "png, grey and alpha": png(np.dstack([GREY, GREY])),
    "tiff, colour": tiff(in_16_bits(COLOUR), channels=3, photometric=2),
    "tiff, colour, big endian": tiff(in_16_bits(COLOUR, ">"), order=">", channels=3, photometric=2),
    "ppm": pnm(COLOUR, 65535),
}


@pytest.mark.parametrize("form", DEEP)
def test_deep_images_agree_with_those_of_8_bits(form, tmp_path):
    (tmp_path / "a.png").write_bytes(DEEP[form])
    wanted = COLOUR if "colour" in form or form == "ppm" else np.dstack([GREY] * 3)
    assert np.abs(pixels(tmp_path / "a.png") - wanted).max() <= 1


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B"])
def test_deep_images_in_memory(mode):
    image = Image.frombytes(mode, (5, 6), in_16_bits(GREY, ">" if mode == "I;16B" else "<"))
    assert np.array_equal(to_rgb(image), np.dstack([GREY] * 3))


@pytest.mark.parametrize("value", [0, 255, 256, 0x1234, 65535])
def test_a_level_of_16_bits_is_its_higher_byte(value, tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(np.full((6, 5), value, "<u2").tobytes()))
    assert pixels(tmp_path / "a.tif").max() == pixels(tmp_path / "a.tif").min() == value >> 8


UNKNOWN = {
    "integers of 32 bits": tiff(GREY.astype("<u4").tobytes(), bits=32),
    "signed integers of 32 bits": tiff(GREY.astype("<i4").tobytes(), bits=32, kind=2),
    "signed integers of 16 bits": tiff(GREY.astype("<i2").tobytes(), kind=2),
    "signed integers of 8 bits": tiff(GREY.tobytes(), bits=8, kind=2),
    "floats": tiff((GREY / 255).astype("<f4").tobytes(), bits=32, kind=3),
    "floats in pfm": b"Pf\n5 6\n-1.0\n" + (GREY / 255).astype("<f4").tobytes(),
}


@pytest.mark.parametrize(
    "data", [tiff(bytes(60), bits=10), tiff(bytes(60), bits=14), b"II+\0\x08\0\0\0" + bytes(40)]
)
def test_a_form_of_an_allowed_format_that_is_not_read(data, tmp_path):
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.tif: .* this form of TIFF .*allowed: 8 or 16 bits") as error:
        read_image(str(tmp_path / "a.tif"))
    assert "PNG" not in str(error.value)


@pytest.mark.parametrize("form", UNKNOWN)
def test_pixels_of_unknown_range_are_refused_by_every_reader_and_check(form, tmp_path):
    path = str(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(UNKNOWN[form])
    for read in (*READERS, lambda path: verify_images([ImageRecord(path, 0, 0, 0)])):
        with pytest.raises(ValueError, match=r"a\.tif: cannot be read as an image: .*allowed: ") as error:
            read(path)
        if form != "floats in pfm":  # of which older versions of Pillow know nothing
            assert ("floats" if "floats" in form else "integers") in str(error.value)
    facts = inspect_files([path], 0)[path]
    assert facts.problem == "unreadable" and path in facts.reason


@pytest.mark.parametrize("order", "<>")
def test_deep_colours_in_planes_of_which_pillow_reads_half_are_refused(order, tmp_path):
    planes = in_16_bits(COLOUR.transpose(2, 0, 1), order)
    (tmp_path / "a.tif").write_bytes(tiff(planes, order=order, channels=3, photometric=2, planes=2))
    for read in READERS:
        with pytest.raises(ValueError, match=r"a\.tif: .* planes of 16 bits; allowed: "):
            read(str(tmp_path / "a.tif"))


# Pillow reads the YCbCr TIFF of odd width that it writes since version 13.
_YCBCR = "tif" if int(PIL.__version__.partition(".")[0]) >= 13 else ""
MODES = {
    "1": ("png", 0), "L": ("png", 0), "LA": ("png", 0), "P": ("png", 0), "PA": ("tif", 0), "RGB": ("png", 0),
    "RGBA": ("png", 0), "RGBX": ("tif", 0), "RGBa": ("", 1), "La": ("", 1), "CMYK": ("tif", 0),
    "YCbCr": (_YCBCR, 3), "LAB": ("tif", 16), "HSV": ("", 6),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_8_bits_or_fewer(mode, tmp_path):
    suffix, most = MODES[mode]
    grey = Image.fromarray(GREY)
    picture = {"L": grey, "1": grey.convert("1"), "La": grey.convert("LA")}.get(mode, Image.fromarray(COLOUR))
    picture = grey.convert("LA") if mode == "LA" else picture
    if mode == "P" or mode == "PA":
        picture = picture.quantize(8)
    wanted = np.asarray(picture.convert("RGB")).astype(int)
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(picture, *profiles, outputMode="LAB")
    else:
        image = picture.convert("RGBA").convert(mode) if mode == "RGBa" else picture.convert(mode)
    if suffix:
        image.save(tmp_path / f"a.{suffix}")
    found = pixels(tmp_path / f"a.{suffix}") if suffix else np.asarray(to_rgb(image)).astype(int)
    assert np.abs(found - wanted).max() <= most


def test_transparency_is_left_out_not_blended(tmp_path, caplog):
    Image.fromarray(np.dstack([COLOUR, np.zeros_like(GREY)])).save(tmp_path / "a.png")
    assert np.array_equal(pixels(tmp_path / "a.png"), COLOUR)


# ---- orientation


def stored_as(number, upright=MARK):
    """The array that EXIF orientation `number` turns into `upright`, by what the standard says of its sides.

    The stored first row is the upright top, bottom, left or right side, its first column another one.
    """
    rows, columns = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }[number]  # fmt: skip
    array = upright if rows in ("top", "bottom") else upright.transpose(1, 0, 2)
    array = array[::-1] if rows in ("bottom", "right") else array
    return array[:, ::-1] if columns in ("right", "bottom") else array


def save_turned(path, number, **options):
    exif = Image.Exif()
    exif[274] = number
    Image.fromarray(np.ascontiguousarray(stored_as(number))).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("form", ["a.png", "a.webp", "a.tif", "packed.tif", "a.jpg", "mpo.jpg"])
def test_all_orientations_are_turned_where_asked_for(form, number, tmp_path):
    options = {"lossless": True} if form == "a.webp" else {}
    options |= {"compression": "tiff_lzw"} if form == "packed.tif" else {}
    options |= {"quality": 100, "subsampling": 0} if form.endswith("jpg") else {}
    options |= {"format": "MPO"} if form == "mpo.jpg" else {}
    path = save_turned(tmp_path / form, number, **options)
    most = 3 if form.endswith("jpg") else 0
    assert np.abs(pixels(path, upright=True) - MARK).max() <= most
    assert np.abs(pixels(path) - stored_as(number)).max() <= most


@pytest.mark.parametrize("number", [0, 9, 300])
def test_numbers_without_a_meaning_turn_nothing(number, tmp_path):
    exif = Image.Exif()
    exif[274] = number
    Image.fromarray(MARK).save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    assert np.abs(pixels(tmp_path / "a.jpg", upright=True) - MARK).max() <= 3


def test_an_orientation_in_xmp_is_turned(tmp_path):
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored_as(6))).save(content, "JPEG", quality=100, subsampling=0)
    segment = b"http://ns.adobe.com/xap/1.0/\0" + packet
    segment = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    (tmp_path / "a.jpg").write_bytes(content.getvalue()[:2] + segment + content.getvalue()[2:])
    assert np.abs(pixels(tmp_path / "a.jpg", upright=True) - MARK).max() <= 3


@pytest.mark.parametrize("keep", [0, 4, 9, 15])
def test_a_damaged_exif_block_turns_nothing(keep, tmp_path):
    path = save_turned(tmp_path / "a.jpg", 6, quality=100, subsampling=0)
    content = path.read_bytes()
    start = content.index(b"Exif\0\0") + 6
    end = start - 8 + struct.unpack(">H", content[start - 8 : start - 6])[0]
    path.write_bytes(content[: start + keep] + b"\xee" * (end - start - keep) + content[end:])
    assert np.abs(pixels(path, upright=True) - stored_as(6)).max() <= 3


@pytest.mark.parametrize("form", ["RGB", "L"])
def test_a_photograph_is_decoded_fast_and_turned(form, tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[274] = 8
    Image.fromarray(COLOUR).convert(form).save(tmp_path / "a.jpg", exif=exif)
    wanted = torch.from_numpy(np.array(read_image(str(tmp_path / "a.jpg"), upright=True))).permute(2, 0, 1)
    monkeypatch.setattr("datasets.pixels.images.to_rgb", lambda *_, **__: pytest.fail("decoded by PIL"))
    assert torch.equal(decode_image(str(tmp_path / "a.jpg"), upright=True), wanted)


def test_odd_images_are_counted_in_the_log(tmp_path, caplog):
    (tmp_path / "deep.png").write_bytes(png(GREY))
    (tmp_path / "colour.png").write_bytes(png(COLOUR))
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "print.jpg")
    Image.fromarray(COLOUR).convert("RGBA").save(tmp_path / "clear.png")
    several = {"save_all": True, "append_images": [Image.fromarray(255 - COLOUR)]}
    for name in ("two.gif", "two.png", "two.tif", "two.mpo", "two.webp"):
        Image.fromarray(COLOUR).save(tmp_path / name, **several)
    Image.fromarray(COLOUR).save(tmp_path / "plain.png")
    for name, number in (("6.jpg", 6), ("3.png", 3), ("8.tif", 8), ("1.jpg", 1)):
        save_turned(tmp_path / name, number)
    paths = sorted(map(str, tmp_path.iterdir()))
    with caplog.at_level("INFO", "transreid.datasets"):
        verify_images([ImageRecord(path, 0, 0, 0) for path in paths], 2)
    example = f", such as {tmp_path}"
    assert caplog.messages == [
        f"3 of 14 images have an EXIF orientation{example}/3.png",
        f"1 of 14 images have colours in CMYK, read as RGB{example}/print.jpg",
        f"5 of 14 images have further frames or pages, of which the first is read{example}/two.gif",
        f"2 of 14 images have more than 8 bits a channel, of which 8 are read{example}/colour.png",
        f"1 of 14 images have transparency, which is left out{example}/clear.png",
    ]
    facts = inspect_files(paths, 0)
    numbers = {path.removeprefix(f"{tmp_path}/"): fact.orientation for path, fact in facts.items()}
    assert numbers == dict.fromkeys(numbers, 1) | {"6.jpg": 6, "3.png": 3, "8.tif": 8}
    assert [len(facts[path].conversions) for path in paths] == [0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1]
