"""CSV and list files made to do harm or damaged by chance: a data set, or an error in one line."""

import csv
import io
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets import ReIDDataset
from datasets.readers.custom import csv_dataset
from datasets.readers.msmt17 import msmt17
from datasets.readers.vehicleid import vehicleid
from datasets.readers.veri import veri

few = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

PATHS = [
    "1.jpg",
    "a/2.jpg",
    "../3.jpg",
    "/4.jpg",
    "~/5.jpg",
    "",
    ".",
    "..",
    "a\0b.jpg",
    "\x1b[2J.jpg",
    "x" * 5000,
]
NUMBERS = ["0", "-1", "7", "9" * 18, "9" * 19, "9" * 5000, "1e3", "٣", "²", "nan", "", " 1 ", "1_0", "0x1"]
WORDS = st.sampled_from(PATHS + NUMBERS) | st.text(max_size=20)
LINES = [
    "0000/0000_000_01_x.jpg 0\n0000/0000_000_02_x.jpg 0\n",
    "0000001 5\n0000002 5\n",
    "VeRi/image_test/0002_c002_0.jpg " + "-1 " * 40 + "3\n",
]
CSV = "path,pid,split,camid\n1.jpg,1,train,1\n2.jpg,1,train,2\n3.jpg,2,query,1\n4.jpg,2,gallery,2\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder in which all four readers find what they need but their tables."""
    root = tmp_path_factory.mktemp("root") / "data"
    for folder in ("MSMT17/train", "MSMT17/test", "VehicleID_V1.0/train_test_split", "VehicleID_V1.0/image"):
        (root / folder).mkdir(parents=True)
    for name in ("image_train/0001_c001_0.jpg", "image_query/0002_c001_0.jpg", "image_test/0002_c002_0.jpg"):
        (root / "VeRi" / name).parent.mkdir(parents=True)
        (root / "VeRi" / name).touch()
    return root


TABLES = {
    csv_dataset: ["dataset.csv"],
    msmt17: [f"MSMT17/list_{name}.txt" for name in ("train", "val", "query", "gallery")],
    vehicleid: [f"VehicleID_V1.0/train_test_split/{name}_list.txt".replace("test_list", "test_list_800")
                for name in ("train", "test")],
    veri: ["VeRi/keypoint_train.txt", "VeRi/keypoint_test.txt"],
}  # fmt: skip


def read(reader, root, table):
    """Write the table to every file of the reader and read them: records, or an error in one line."""
    for name in TABLES[reader]:
        (root / name).write_bytes(table)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dataset = reader(root)
    except (ValueError, OSError) as error:
        text = str(error)
        assert str(root) in text and "\n" not in text and "\r" not in text and "\0" not in text
        assert len(text) < 1000, "a line nobody reads"
    else:
        assert isinstance(dataset, ReIDDataset) and dataset.query and dataset.gallery
        for record in (*dataset.train, *dataset.test_records()):
            assert -(2**63) <= record.pid < 2**63
    assert not caught, caught[0]


def damaged(draw, text):
    """Its bytes, of which some are changed, and a piece is left out or put in."""
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    for place, value in draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=4)
    ):
        content[place] = value
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    return bytes(
        content[:start] + draw(st.binary(max_size=10)) + content[draw(st.sampled_from([start, end])) :]
    )


@few
@given(data=st.data())
def test_a_csv_file_that_was_damaged(data, root):
    read(csv_dataset, root, damaged(data.draw, CSV))


@few
@given(
    columns=st.permutations(["path", "pid", "split", "camid", "viewid", "note"]),
    rows=st.lists(st.lists(WORDS, min_size=5, max_size=7), max_size=8),
    delimiter=st.sampled_from([",", ",", ",", ";", "\t"]),
    end=st.sampled_from(["\r\n", "\n", "\r"]),
)
def test_a_csv_file_of_odd_cells(columns, rows, delimiter, end, root):
    splits = ["train", "query", "gallery"]
    for number, row in enumerate(rows):
        if len(row) == 6:
            row[columns.index("split")] = splits[number % 3]
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, lineterminator=end).writerows([columns, *rows])
    read(csv_dataset, root, buffer.getvalue().encode("utf-8", "surrogatepass"))


@few
@given(cells=st.lists(st.tuples(WORDS, WORDS), min_size=4, max_size=6))
def test_a_csv_file_of_odd_paths_and_identities(cells, root):
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["split", "path", "pid"])
    for split, cell in zip(["train", "query", "gallery"] * 2, cells, strict=False):
        writer.writerow([split, *cell])
    read(csv_dataset, root, buffer.getvalue().encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("reader", [msmt17, vehicleid, veri], ids=lambda reader: reader.__name__)
@few
@given(data=st.data())
def test_a_list_file_that_was_damaged(reader, data, root):
    read(reader, root, damaged(data.draw, data.draw(st.sampled_from(LINES))))


@pytest.mark.parametrize("reader", [msmt17, vehicleid, veri], ids=lambda reader: reader.__name__)
@few
@given(
    lines=st.lists(st.lists(WORDS | st.sampled_from(LINES), min_size=1, max_size=3), max_size=6),
    separator=st.sampled_from([" ", "\t", "_", "\0", "\u2028"]),
)
def test_a_list_file_of_odd_words(reader, lines, separator, root):
    text = "\n".join(separator.join(line) for line in lines)
    read(reader, root, text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("reader", TABLES, ids=lambda reader: reader.__name__)
@pytest.mark.parametrize(
    "table",
    [
        b"",
        b"\0" * 1000,
        b"\xff\xfe" + "path,pid,split".encode("utf-16-le"),
        b"\xef\xbb\xbf",
        b'path,pid,split\n"' + b"x" * 500_000,
        b"path,pid,split\n" + b"x" * 500_000,
        b"path,pid,split" + b",x" * 100_000 + b"\n1,2",
        b"path,pid,split\n" + b"\n" * 100_000 + b"1,2",
        b"path,path,pid,split\n",
        b"path,pid,split\n" + b'"' * 100_001,
        b"a_b_01 " + b"9" * 5000,
        b"a_b_" + b"1" * 5000 + b" 1",
        b"x " * 100_000,
    ],
    ids=range(13),
)
def test_hostile_tables(reader, table, root):
    read(reader, root, table)


def test_good_tables_are_read(root):
    for reader, table in ((csv_dataset, CSV), (msmt17, LINES[0]), (vehicleid, LINES[1])):
        for name in TABLES[reader]:
            (root / name).write_text(table)
        assert isinstance(reader(root), ReIDDataset)
