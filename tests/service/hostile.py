"""Hostile and malformed requests to a server, as raw bytes; each of them deserves a status of 4xx."""

import io
import json
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

BOUNDARY = "boundary"
FORMS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")


def request(path, body=b"", kind=None, method="POST", headers=()):
    """A request that asks to close the connection afterwards."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"Content-Type: {kind}"] if kind else []
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


def part(name, data, filename=None, more=()):
    """A part of a form."""
    disposition = f'Content-Disposition: form-data; name="{name}"'
    disposition += f'; filename="{filename}"' if filename is not None else ""
    head = "\r\n".join([f"--{BOUNDARY}", disposition, *more, "", ""]).encode()
    return head + (data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")) + b"\r\n"


def form(*parts, end=b"--boundary--\r\n", path="/search", kind=f"multipart/form-data; boundary={BOUNDARY}"):
    return request(path, b"".join(parts) + end, kind)


def picture(form="PNG", size=(40, 24)):
    pixels = np.random.default_rng(7).integers(0, 256, (*size, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form)
    return data.getvalue()


GOOD = part("image", picture(), "a.png")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, data=b"", *others):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *others, chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(*entries, count=1):
    """A TIFF file with these tags and values."""
    packed = [struct.pack("<HHII", tag, 4, count, value) for tag, value in entries]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(packed)) + b"".join(packed) + bytes(4)


def uploads() -> Iterator[tuple[str, bytes]]:
    """Bytes that are no picture, or one that no server should decode."""
    for name in FORMS:
        whole = picture(name)
        for share in (0.02, 0.1, 0.3, 0.5):
            yield f"{name} cut at {share}", whole[: int(len(whole) * share)]
        other = picture(FORMS[(FORMS.index(name) + 1) % len(FORMS)])
        yield f"{name} with the body of another", whole[:12] + other[12:]
        if name != "PPM":  # whose pixels may be anything
            yield f"{name} of zeros", whole[:16] + bytes(len(whole) - 16)
            yield f"{name} of noise", whole[:16] + np.random.default_rng(1).bytes(len(whole) - 16)
    rows = zlib.compress(bytes(1 + 3 * 20_000) * 2000, 9)
    yield "PNG of 400 million pixels", png(20_000, 20_000, rows)
    yield "PNG of 30 million pixels", png(20_000, 1500, zlib.compress(bytes((1 + 60_000) * 1500), 9))
    yield "PNG of the largest header", png(0x7FFFFFFF, 0x7FFFFFFF, b"")
    yield "PNG without a size", png(0, 0, b"")
    yield (
        "PNG of endless text",
        png(9, 9, b"", *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 22)))] * 30),
    )
    yield "PNG of many chunks", png(9, 9, b"", *[chunk(b"tEXt", b"a\0b")] * 20_000)
    yield "PNG of a wide profile", png(9, 9, b"", chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 26))))
    yield "PNG without data", png(100, 100)
    yield "GIF of a large header", b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";"
    yield (
        "GIF of a large frame",
        (b"GIF89a\x01\0\x01\0\0\0\0," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02D\x01\0;"),
    )
    bmp = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 99, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 1, 1, 0, 0)
    yield "BMP of a large header", bmp + bytes(99)
    yield "BMP of a negative size", bmp[:18] + struct.pack("<ii", -5, -(2**31)) + bmp[26:]
    yield "PPM of a large header", b"P6 100000 100000 255\n" + bytes(99)
    yield "PPM of an endless header", b"P6 " + b"#" * 100_000
    yield "PPM of letters", b"P6 a b c\n"
    jpeg = picture("JPEG")
    start = jpeg.index(b"\xff\xc0")
    large = jpeg[: start + 5] + struct.pack(">HH", 65_500, 65_500) + jpeg[start + 9 :]
    yield "JPEG of a large header", large
    progressive = io.BytesIO()
    Image.new("RGB", (64, 64)).save(progressive, "JPEG", progressive=True)
    data = progressive.getvalue()
    scan = data.index(b"\xff\xda")
    yield "JPEG of many scans", data[:scan] + data[scan:-2] * 150 + b"\xff\xd9"
    yield "JPEG of many segments", jpeg[:2] + b"\xff\xfe\0\2" * 20_000 + jpeg[2:]
    yield "JPEG of endless EXIF", jpeg[:2] + b"\xff\xe1\0\x08Exif\0\0" * 2000 + jpeg[2:]
    yield "TIFF of a large header", tiff((256, 10**6), (257, 10**6), (273, 8), (279, 99))
    yield "TIFF of a large tile", tiff((256, 9), (257, 9), (322, 10**6), (323, 10**6), (324, 8), (325, 99))
    yield "TIFF that points at itself", tiff((273, 2**31)) + b"\x08\0\0\0"
    yield "TIFF of many strips", tiff((256, 9), (257, 9), (273, 8), count=10**9)
    webp = b"VP8X\x0a\0\0\0\0\0\0\0" + (16_383).to_bytes(3, "little") * 2
    yield "WEBP of a large header", b"RIFF" + struct.pack("<I", len(webp) + 4) + b"WEBP" + webp
    for name, data in {
        "nothing": b"",
        "a zero": b"\0",
        "zeros": bytes(100_000),
        "text": b"this is a picture",
        "HTML": b"<!doctype html><script>alert(1)</script>",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        "XML that grows": b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><svg>&c;</svg>',
        "PDF": b"%PDF-1.7\n1 0 obj\n",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(a) run\n",
        "ZIP": b"PK\x03\x04" + bytes(99),
        "GZIP": b"\x1f\x8b\x08" + bytes(99),
        "ELF": b"\x7fELF" + bytes(99),
        "a pickle": b"\x80\x04cos\nsystem\n(S'touch /tmp/x'\ntR.",
        "MP4": b"\0\0\0 ftypisom" + bytes(99),
        "HEIC": b"\0\0\0 ftypheic" + bytes(99),
        "ICO": b"\0\0\1\0\1\0" + bytes(99),
        "PSD": b"8BPS\0\1" + bytes(99),
        "PCX": b"\x0a\x05\x01\x08" + bytes(128),
        "TGA": b"\0\0\2" + bytes(99),
        "FITS": b"SIMPLE  =                    T" + b" " * 2880,
        "EPS behind JPEG's mark": b"\xff\xd8\xff%!PS\n",
        "a GIF that is a script": b"GIF89a=1;alert(1)//",
        "a PNG that is HTML": b"\x89PNG\r\n\x1a\n<html><script>alert(1)</script>",
        "a BMP that is a script": b"BM=1;alert(1)//" + bytes(99),
        "base64": b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ",
        "UTF-16": "picture".encode("utf-16"),
        "AVIF": b"\0\0\0\x1cftypavif" + bytes(99),
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99),
        "a codestream": b"\xff\x4f\xff\x51"
        + struct.pack(">HHIIIIIIII", 41, 0, 10**6, 10**6, 0, 0, 1, 1, 0, 0),
    }.items():
        yield name, data
    for seed in range(8):
        yield f"noise {seed}", np.random.default_rng(seed).bytes(3000)


def forms() -> Iterator[tuple[str, bytes]]:
    """Forms that are malformed or ask for what cannot be."""
    kind = "multipart/form-data"
    for name, value in {
        "no boundary": kind,
        "an empty boundary": f"{kind}; boundary=",
        "another boundary": f"{kind}; boundary=other",
        "a long boundary": f"{kind}; boundary={'a' * 300}",
        "a boundary of odd letters": f'{kind}; boundary="\xe9\xff"',
        "a boundary with quotes": f'{kind}; boundary="bound\\"ary"',
        "a boundary that ends in a space": f'{kind}; boundary="boundary "',
        "another kind": "multipart/mixed; boundary=boundary",
        "no kind": "",
        "a kind of spaces": "   ",
        "an odd kind": "multipart/form-data/\x7f; boundary=boundary",
        "a picture's kind": "image/png",
        "XML's kind": "application/xml",
    }.items():
        yield name, form(GOOD, kind=value)
    yield "no form", form(b"", end=b"")
    yield "an end only", form(b"")
    yield "no end", form(GOOD, end=b"")
    yield "no end of a head", form(b'--boundary\r\nContent-Disposition: form-data; name="image"', end=b"")
    yield "no head", form(b"--boundary\r\n\r\nabc\r\n")
    yield "no name", form(b"--boundary\r\nContent-Disposition: form-data\r\n\r\nabc\r\n")
    yield "no disposition", form(b"--boundary\r\nContent-Type: image/png\r\n\r\nabc\r\n")
    yield "no colon", form(b"--boundary\r\nContent-Disposition form-data\r\n\r\nabc\r\n")
    yield "junk in a head", form(b"--boundary\r\n\x00\xff\x01: a\r\n\r\nabc\r\n")
    yield "lines that end wrongly", form(GOOD.replace(b"\r\n", b"\n"))
    yield "noise for a form", form(np.random.default_rng(3).bytes(5000))
    yield "a long head", form(part("image", b"", "a" * 100_000))
    yield "many heads", form(part("image", b"", "a", [f"X-{i}: a" for i in range(5000)]))
    yield "two pictures", form(GOOD, GOOD)
    yield "many parts", form(GOOD, *[part(f"k{i}", "1") for i in range(200)])
    yield "a long field", form(GOOD, part("exclude_camera", "a" * 100_000))
    yield "an unknown field", form(GOOD, part("camera_", "a"))
    yield "an unknown file", form(part("picture", picture(), "a.png"))
    yield "a picture as text", form(part("image", "picture"))
    yield "a field as a file", form(GOOD, part("k", b"3", "k.txt"))
    yield "a field twice", form(GOOD, part("k", "3"), part("k", "4"))
    yield "a form in a form", form(part("image", form(GOOD), "a.png"))
    yield (
        "a picture in base64",
        form(part("image", b"iVBORw0KGgo=", "a", ["Content-Transfer-Encoding: base64"])),
    )
    for name, value in {
        "k": ("0", "-1", "1001", "9" * 5000, "1e3", "3.5", "ten", "0x10", "٣x", "1_0_", "None", "true"),
        "threshold": ("-1", "nan", "inf", "-inf", "1e999", "far", "0,5"),
        "since": (
            "yesterday",
            "2026-13-01",
            "2026-02-30",
            "0001-01-01",
            "9999-12-31T23:59:59",
            "1e400",
            "-1e18",
        ),
        "exclude_camera": ("a\nb", "a\0b", "\x1b[31m", "\u202e", "\ufeffa", "a" * 2000, "\ud800"),
        "cameras": ("a\nb", "\u2028", "b" * 2000),
    }.items():
        for each in value:
            yield f"{name} {each[:20]!a}", form(GOOD, part(name, each))
    yield "many cameras", form(GOOD, *[part("cameras", "a")] * 100)
    yield "a sentence and a picture", form(GOOD, part("sentence", "a man"))
    yield "no question", form(part("k", "3"))
    for name, value in {"identity": "a\nb", "camera": "\x07", "time": "then"}.items():
        yield f"adding with {name} {value!a}", form(GOOD, part(name, value), path="/images")
    yield "adding with a long name", form(GOOD, part("identity", "é" * 1000), path="/images")
    yield "adding without a picture", form(part("identity", "a"), path="/images")
    yield "adding a path", form(GOOD, part("path", "/etc/passwd"), path="/images")
    yield "adding JSON", request("/images", b"{}", "application/json")


def texts() -> Iterator[tuple[str, bytes]]:
    """JSON and other texts that are malformed or ask for what cannot be."""
    for name, body in {
        "nothing": b"",
        "half": b'{"key": ',
        "a list": b"[]",
        "null": b"null",
        "a number": b"1",
        "a text": b'"a"',
        "depth": b'{"key": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        "depth of objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        "size": json.dumps({"key": "a" * 100_000}).encode(),
        "many fields": json.dumps({f"a{i}": 1 for i in range(5000)}).encode(),
        "many cameras": json.dumps({"key": "a", "cameras": ["a"] * 5000}).encode(),
        "NaN": b'{"key": "a", "threshold": NaN}',
        "infinity": b'{"key": "a", "threshold": 1e999}',
        "a huge number": b'{"key": "a", "k": ' + b"9" * 5000 + b"}",
        "a text for a number": b'{"key": "a", "k": "3"}',
        "a number for a text": b'{"key": 3}',
        "a boolean": b'{"key": "a", "k": true}',
        "an object for a text": b'{"key": {"$ne": ""}}',
        "bytes": b'{"key": "\xff\xfe"}',
        "half a pair": b'{"sentence": "\\ud800"}',
        "UTF-16": '{"key": "a"}'.encode("utf-16"),
        "a byte order mark": b'\xef\xbb\xbf{"key": "a"}',
        "a line break in a key": b'{"key": "a\\nb"}',
        "an end of text in a key": b'{"key": "a\\u0000b"}',
        "an empty key": b'{"key": ""}',
        "a long key": json.dumps({"key": "k" * 1000}).encode(),
        "an empty sentence": b'{"sentence": ""}',
        "a sentence of spaces": b'{"sentence": "  \\t "}',
        "a long sentence": json.dumps({"sentence": "man " * 400}).encode(),
        "a condition for a camera": b'{"key": "a", "exclude_camera": "\\" or 1 == 1 or \\"\\n"}',
        "a picture in JSON": b'{"image": "iVBORw0KGgo="}',
        "two values": b'{"key": "a"} {"key": "b"}',
        "a comment": b'{"key": "a" /* */}',
        "single quotes": b"{'key': 'a'}",
    }.items():
        yield f"JSON: {name}", request("/search", body, "application/json")
    for name, body in {
        "many fields": b"&".join(b"a%d=1" % i for i in range(5000)),
        "bytes": b"key=\xff",
        "bytes, escaped": b"key=%ff",
        "size": b"key=" + b"a" * 100_000,
        "separators": b"&" * 5000,
        "twice": b"k=3&k=4&key=a",
        "unknown": b"key=a&other=1",
    }.items():
        yield f"URL-encoded: {name}", request("/search", body, "application/x-www-form-urlencoded")


def lines() -> Iterator[tuple[str, bytes]]:
    """Paths, methods and heads."""
    for key in (
        *(
            "../../etc/passwd",
            "..%2f..%2fetc%2fpasswd",
            "%2e%2e/",
            "/etc/passwd",
            "a%00b",
            "%ff%fe",
            "%",
            "%zz",
        ),
        *(
            "k" * 600,
            "%22%20or%201==1",
            "key in ['a']",
            "%0d%0aSet-Cookie:a",
            "\\..\\..\\a",
            "con",
            ".",
            "~",
            "%E2%80%AE",
        ),
    ):
        target = key.replace(" ", "%20")
        yield f"GET {key[:30]}", request(f"/images/{target}", method="GET")
        yield f"DELETE {key[:30]}", request(f"/images/{target}", method="DELETE")
    for method in ("PUT", "PATCH", "TRACE", "CONNECT", "PROPFIND"):
        yield method, request("/search", method=method)
    for path in (
        "/search/",
        "//search",
        "/search/../metrics/../search",
        "/images/",
        "/.env",
        "/static/../app.py",
    ):
        yield f"to {path}", request(path, b"{}", "application/json")
    head = b"POST /search HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    yield from {
        "no host": b"GET /health HTTP/1.1\r\n\r\n",
        "two hosts": b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        "another host": b"GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        "an odd host": b"GET /health HTTP/1.1\r\nHost: localhost/../\r\nConnection: close\r\n\r\n",
        "another origin": head + b"Origin: http://evil.example\r\nContent-Length: 0\r\n\r\n",
        "a long head": head + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        "many heads": head + b"".join(b"X-%d: a\r\n" % i for i in range(10_000)) + b"\r\n",
        "an odd head": head + b"X\x00Y: a\r\n\r\n",
        "a head without a colon": head + b"abc\r\n\r\n",
        "a negative length": head + b"Content-Length: -5\r\n\r\n",
        "a length of letters": head + b"Content-Length: abc\r\n\r\n",
        "two lengths": head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "a huge length": head + b"Content-Length: " + b"9" * 18 + b"\r\n\r\n",
        "a longer length": head + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n",
        "a large length": head + b"Content-Type: application/json\r\nContent-Length: 11000000\r\n\r\n",
        "odd chunks": head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n",
        "an unknown encoding": head + b"Transfer-Encoding: gzip\r\n\r\n",
        "length and chunks": head + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "no HTTP": b"hello\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(60) + b"\r\n\r\n",
        "bytes in a path": b"GET /images/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "a path of zeros": b"GET /\0\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "zeros": bytes(200) + b"\r\n\r\n",
    }.items()


def all_requests() -> dict[str, bytes]:
    """All by name."""
    found = {}
    for name, data in uploads():
        for path in ("/search", "/images"):
            found[f"{path} {name}"] = form(part("image", data, "a.png"), path=path)
    for source in (forms, texts, lines):
        found |= {f"{source.__name__} {name}": data for name, data in source()}
    return found
