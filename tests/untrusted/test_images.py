"""Image files made to do harm or damaged by chance: they decode, or end in one line that names them."""

import errno
import io
import os
import socket
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets import ImageRecord, decode_image, inspect_files, read_image, verify_images
from utils.text import printable
from utils.untrusted.pictures import (
    FORMATS,
    MAX_PIXELS,
    MAX_SCANS,
    MAX_SEGMENTS,
    MAX_STRIPS,
    picture_suffixes,
)

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # pytest sets filters of its own
READERS = (read_image, decode_image, lambda path: verify_images([ImageRecord(path, 0, 0, 0)]))
FORMS = {
    "jpeg": ("RGB", "JPEG", {}),
    "progressive": ("RGB", "JPEG", {"progressive": True}),
    "cmyk": ("CMYK", "JPEG", {}),
    "png": ("RGB", "PNG", {}),
    "palette": ("P", "PNG", {"transparency": b"\x00\x80"}),
    "bmp": ("RGB", "BMP", {}),
    "gif": ("P", "GIF", {}),
    "webp": ("RGB", "WEBP", {}),
    "lossless": ("RGB", "WEBP", {"lossless": True}),
    "tiff": ("RGB", "TIFF", {}),
    "jpeg2000": ("RGB", "JPEG2000", {}),
    "avif": ("RGB", "AVIF", {}),
}
FORMS = {form: settings for form, settings in FORMS.items() if settings[1] in FORMATS}
HUGE = st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])


def encode(form, size=(24, 40)):
    mode, name, options = FORMS[form]
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, name, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """One path that every example overwrites."""
    return tmp_path_factory.mktemp("images") / "hostile.jpg"


def outcomes(file, data):
    """The error of each reader, None without one."""
    file.write_bytes(data)
    errors = []
    for read in READERS:
        try:
            read(str(file))
            errors.append(None)
        except ValueError as error:
            assert f"{file}: cannot be read as an image: " in str(error)
            assert len(str(error).splitlines()) == 1
            errors.append(str(error))
    return errors


@settings(max_examples=150, deadline=None, derandomize=True)
@given(form=st.sampled_from(list(FORMS)), data=st.data())
def test_bytes_that_are_changed(form, data, file):
    content = bytearray(encode(form))
    # Most of the bytes worth an attack are the first ones.
    places = st.integers(0, min(60, len(content) - 1)) | st.integers(0, len(content) - 1)
    changes = st.lists(st.tuples(places, HUGE | st.integers(0, 255)), min_size=1, max_size=8)
    for place, value in data.draw(changes):
        content[place] = value
    outcomes(file, bytes(content))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(form=st.sampled_from(list(FORMS)), data=st.data())
def test_files_that_are_cut_off_or_have_pieces_too_many(form, data, file):
    content = encode(form)
    place = data.draw(st.integers(0, len(content)))
    outcomes(file, content[:place] + data.draw(st.binary(max_size=30)))
    outcomes(file, content[:place] + data.draw(st.binary(min_size=1, max_size=30)) + content[place:])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(start=st.sampled_from([encode(form)[:12] for form in FORMS]), rest=st.binary(max_size=400))
def test_any_bytes_after_the_signature(start, rest, file):
    outcomes(file, start + rest)


# ---- headers that claim more pixels than memory should be taken for


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def jpeg(width, height, *, before=b"", form="jpeg"):
    content = encode(form)
    frame = next(at for at in (content.find(b"\xff\xc0"), content.find(b"\xff\xc2")) if at > 0)
    size = struct.pack(">HH", height, width)
    return content[:frame] + before + content[frame : frame + 5] + size + content[frame + 9 :]


def bmp(width, height):
    content = encode("bmp")
    return content[:18] + struct.pack("<ii", width, height) + content[26:]


def gif(width, height):
    content = encode("gif")
    return content[:6] + struct.pack("<HH", width, height) + content[10:]


def gif_frame(width, height):
    content = encode("gif")
    frame = content.index(b",\0\0\0\0" + struct.pack("<HH", 24, 40))
    return content[: frame + 5] + struct.pack("<HH", width, height) + content[frame + 9 :]


def webp(width, height):
    content = encode("lossless")
    bits = int.from_bytes(content[21:25], "little") >> 28 << 28 | (height - 1) << 14 | (width - 1)
    return content[:21] + bits.to_bytes(4, "little") + content[25:]


def tiff(width, height):
    content = encode("tiff")
    for tag, size, value in ((256, 24, width), (257, 40, height)):
        (field,) = (f for kind in (3, 4) if (f := struct.pack("<HHII", tag, kind, 1, size)) in content)
        content = content.replace(field, struct.pack("<HHII", tag, 4, 1, value))
    return content


def tiff_tile(width, height):
    tags = [(256, 16), (257, 16), (258, 8), (259, 5), (262, 1), (277, 1), (325, 64)]
    tags += [(322, width), (323, height), (324, 8 + 2 + 12 * 10 + 4)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4 + 64)


MADE = [jpeg, png, bmp, gif, gif_frame, webp, tiff, tiff_tile]


@pytest.mark.parametrize("make", MADE)
def test_a_header_that_claims_too_much_is_refused(make, file):
    wanted = "its header says 9500 x 9500 pixels; allowed: at most 89,478,485 in all"
    assert all(wanted in line for line in outcomes(file, make(9_500, 9_500)))


@pytest.mark.parametrize(
    ("make", "side"),
    [(jpeg, 60_000), (png, 2**31 - 1), (bmp, 2**31 - 1), (gif_frame, 60_000), (tiff, 2**32 - 1)],
)
def test_far_too_much_is_refused(make, side, file):
    assert all(outcomes(file, make(side, side)))


SMALL_FRAME = b"\xff\xc0\0\x11\x08\0\x28\0\x18"
BEFORE = {
    "nothing": b"",
    "fill bytes": b"\xff\xff\xff",
    "bare markers": b"\xff\xd0\xff\x01",
    "many comments": b"\xff\xfe\0\x04\xff\xc0" * 1200,
    "a thumbnail": b"\xff\xe1\0\x0b" + SMALL_FRAME,
    "a frame that overlaps": b"\xff\xe1\0\x05" + SMALL_FRAME[:3],
    "odd bytes": b"odd",
}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("form", ["jpeg", "progressive", "cmyk"])
def test_a_jpeg_bomb_is_seen_behind_anything(form, before, file, monkeypatch):
    monkeypatch.setattr("datasets.pixels.images._decode_jpeg", lambda data: pytest.fail("memory was taken"))
    assert all(outcomes(file, jpeg(60_000, 60_000, before=BEFORE[before], form=form)))


@pytest.mark.parametrize("form", ["jpeg", "png", "gif"])
def test_allowed_sizes_are_not_refused(form, file, monkeypatch):
    assert MAX_PIXELS == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr("utils.untrusted.pictures.MAX_PIXELS", 24 * 40)
    assert outcomes(file, encode(form)) == [None] * 3
    monkeypatch.setattr("utils.untrusted.pictures.MAX_PIXELS", 24 * 40 - 1)
    assert all("24 x 40 pixels; allowed: at most 959 in all" in line for line in outcomes(file, encode(form)))


def test_suffixes_are_those_of_the_formats_that_are_read():
    suffixes, wanted = picture_suffixes(), {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif"}
    wanted |= {".tiff", ".ppm", ".pgm", ".mpo"}
    wanted |= {suffix for suffix, name in ((".jp2", "JPEG2000"), (".avif", "AVIF")) if name in FORMATS}
    assert wanted <= set(suffixes) and not {".pfm", ".eps", ".ps", ".pdf", ".txt"} & set(suffixes)


def test_formats_that_run_programs_are_refused(file, monkeypatch):
    """Pillow has PostScript drawn by Ghostscript."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("a program was run"))
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 40\n%%EndComments\nshowpage\n%%EOF\n"
    assert all("cannot identify image file" in line for line in outcomes(file, page))


def test_neither_memory_is_taken_nor_a_warning_printed(file):
    pytest.importorskip("resource")
    lines = ["import resource, sys", "from datasets import decode_image, read_image", "from PIL import Image"]
    lines += ["before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss", "for path in sys.argv[1:]:"]
    lines += ["    for read in (read_image, decode_image):", "        try:", "            read(path)"]
    lines += ["        except ValueError as error:", "            assert 'pixels' in str(error)"]
    lines += ["        else:", "            raise SystemExit('read')"]
    lines += ["print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"]
    paths = []
    for make in MADE:
        for side in (9_500, 16_000):  # Pillow warns of the one and refuses the other
            paths.append(file.with_name(f"{make.__name__}_{side}.jpg"))
            paths[-1].write_bytes(make(side, side))
    command = [sys.executable, "-W", "default::Warning:PIL", "-c", "\n".join(lines), *map(str, paths)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not result.stderr and int(result.stdout) < 50_000  # kB; the smallest of the images has 270 MB


@pytest.mark.parametrize("path", ["a\0b.jpg", "a\udcffb.jpg", "a" * 5000, ""])
def test_paths_that_no_file_can_have(path):
    for read in (read_image, decode_image):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            read(path)
        assert str(error.value).startswith(f"{printable(path)}: ")


# ---- files that are no plain files, and files that claim time


@pytest.fixture
def oddity(request, tmp_path):
    path, kind = tmp_path / "odd.jpg", request.param
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(path))
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.write(encode("jpeg"))
            file.truncate(6 * 2**30)
    return str(path), kind


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes among its files")
@pytest.mark.parametrize(
    "oddity", ["a pipe", "a socket", "a device", "a folder", "6,442,450,944 bytes"], indirect=True
)
def test_what_is_no_plain_file_is_refused_before_it_is_opened(oddity, monkeypatch):
    path, kind = oddity
    monkeypatch.setattr("os.open", lambda *_: pytest.fail("opened"))
    for read in READERS:
        with pytest.raises(ValueError, match=rf"odd\.jpg: cannot be read as an image: .*{kind}; allowed: "):
            read(path)
    if kind != "a folder":
        facts = inspect_files([path], 0)[path]
        assert facts.problem == "unreadable" and kind in facts.reason


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, ValueError), (errno.EMFILE, OSError)])
def test_a_file_that_cannot_be_opened_is_its_fault_or_the_machines(number, kind, file, monkeypatch):
    """Too many open files must not make training take other images."""

    def fails(*_):
        raise OSError(number, os.strerror(number))

    file.write_bytes(encode("png"))
    monkeypatch.setattr("os.open", fails)
    for read in (read_image, decode_image):
        with pytest.raises(kind, match=f"{file}.*{os.strerror(number)}"):
            read(str(file))


def scans(count, *, form="progressive", before=b"", after=b""):
    """A JPEG of `count` scans, the last one repeated."""
    content = encode(form)
    last, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    again = count - content.count(b"\xff\xda")
    return content[:2] + before + content[2:end] + content[last:end] * again + content[end:] + after


COMMENT = b"\xff\xfe\0\x08" + b"\xff\xda" * 3


@pytest.mark.parametrize(
    "data",
    [
        scans(MAX_SCANS),
        scans(10, before=COMMENT * 50),
        scans(10, after=b"\xff\xda" * 500),  # a film behind a photograph
        scans(10, before=COMMENT * (MAX_SEGMENTS - 100)),
    ],
    ids=["most scans", "comments", "a film", "most segments"],
)
def test_jpeg_files_within_the_limits(data, file):
    assert outcomes(file, data) == [None] * 3


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (scans(MAX_SCANS + 1), "100 scans"),
        (scans(3000), "100 scans"),
        (scans(200, before=b"\xff\xff\xff\xd0\xff\x01odd" + COMMENT), "100 scans"),
        (scans(10, before=COMMENT * MAX_SEGMENTS), "10,000 segments"),
        (scans(10, before=b"\xff\xe1\0\x10Exif\0\0II*\0\x08\0\0\0" * 101), "100 segments of EXIF"),
    ],
)
def test_jpeg_files_beyond_them(data, limit, file, monkeypatch):
    monkeypatch.setattr("datasets.pixels.images._decode_jpeg", lambda data: pytest.fail("decoded"))
    assert all(
        f"more than {limit}; allowed: at most {limit.split()[0]}" in line for line in outcomes(file, data)
    )


def tiles(side, tile):
    content = bytearray(encode("jpeg2000", (side, side)))
    start = content.index(b"\xff\x4f\xff\x51")
    content[start + 24 : start + 32] = struct.pack(">II", tile, tile)
    return bytes(content)


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True), (">", True)])
@pytest.mark.parametrize("count", [MAX_STRIPS, MAX_STRIPS + 1])
def test_tiff_files_of_many_strips(order, big, count, file):
    """Of one pixel each, all at one place of the file."""
    tags = [(256, 1), (257, count), (258, 8), (259, 1), (262, 1), (273, count), (277, 1), (278, 1), (279, 1)]
    head = struct.pack(order + "HHHQQ", 43, 8, 0, 16, 9) if big else struct.pack(order + "HIH", 42, 8, 9)
    entry, end = ("HHQQ", 8) if big else ("HHII", 4)
    place = 2 + len(head) + 9 * struct.calcsize(order + entry) + end
    data = {"<": b"II", ">": b"MM"}[order] + head
    for tag, value in tags:
        several = (value, place) if tag == 273 else (1, value)
        data += struct.pack(order + entry, tag, 4, *several)
    data += bytes(end) + struct.pack(order + "I", place) * count
    refused = outcomes(file, data)
    if count > MAX_STRIPS:
        assert all("values of tag 273; allowed: at most 100,000" in line for line in refused)
    elif (order, big) != (">", True):  # which Pillow does not read
        assert refused == [None] * 3


@pytest.mark.skipif("JPEG2000" not in FORMATS, reason="this Pillow has no decoder for JPEG 2000")
def test_jpeg_2000_files_of_many_tiles(file):
    assert outcomes(file, tiles(64, 64)) == [None] * 3
    assert all(
        "its header says 65,536 tiles; allowed: at most 4,096" in e for e in outcomes(file, tiles(256, 1))
    )
