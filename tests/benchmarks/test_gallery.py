"""The benchmark of galleries at a tiny size."""

import json
import sys

import pytest

pytest.importorskip("pymilvus")

from benchmarks.gallery import works
from benchmarks.gallery.__main__ import main, recall, require_equal, table
from benchmarks.gallery.drawn import BLOCK, DrawnGallery

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


@pytest.fixture
def here(monkeypatch):
    """Works run in this process, and measure each kind of search once."""
    monkeypatch.setattr(works, "SINGLE_QUERIES", 1)
    monkeypatch.setattr(works, "TIMES", 1)

    def run_here(_, options):
        given = dict(zip(options[::2], options[1::2], strict=True))
        drawn = DrawnGallery(int(given["--sizes"]), int(given["--seed"]))
        return {"work": given["--here"]} | works.WORKS[given["--here"]](drawn, given["--address"])

    monkeypatch.setattr("benchmarks.gallery.__main__.run_alone", run_here)


@linux_only
def test_timings_and_table(here, capsys, tmp_path):
    main(["--sizes", "700", "--folder", str(tmp_path)])  # ends where results differ
    lines = capsys.readouterr().out.splitlines()
    numbers = [json.loads(line) for line in lines[:6]]
    assert [each["work"] for each in numbers] == ["add", "search", "product", "index", "search", "faiss"]
    assert numbers[0]["add_seconds"] > 0 and numbers[0]["disk_megabytes"] > 700 * 512 * 4 / 1e6
    assert all(each["one_ms"] > 0 and each["q64_ms"] > 0 for each in numbers if "one_ms" in each)
    rows = [line.split(" | ") for line in lines[9:]]
    assert [row[1] for row in rows] == ["gallery, flat", "gallery, HNSW", "faiss flat", "matrix product"]
    assert rows[0][4].endswith("×)") and rows[3][4].endswith(" ms")
    assert rows[0][-1] == "1.000 |" and float(rows[1][-1].split()[0]) > 0.8
    assert not list(tmp_path.iterdir())


@linux_only
@pytest.mark.slow
def test_works_are_processes_of_their_own(capfd, tmp_path):
    main(["--sizes", "300", "--folder", str(tmp_path), "--no-hnsw"])
    lines = capfd.readouterr().out.splitlines()
    assert [json.loads(line)["work"] for line in lines[:4]] == ["add", "search", "product", "faiss"]
    assert all(line.startswith("| 300 | ") for line in lines[-3:])


def test_drawn_galleries_depend_on_size_and_seed_alone():
    def all_of(size, seed):
        return [
            part for block in DrawnGallery(size, seed).blocks() for part in (block.features, block.cameras)
        ]

    first, again, other = (all_of(BLOCK + 5, seed) for seed in (3, 3, 4))
    assert [len(part) for part in first] == [BLOCK, BLOCK, 5, 5]
    assert all(part.equal(twin) for part, twin in zip(first, again, strict=True))
    assert not first[0].equal(other[0])
    assert first[0].norm(dim=1).sub(1).abs().max() < 1e-5
    (block,) = DrawnGallery(40, 0).blocks()
    assert len(set(block.keys)) == 40 and block.metadata[7].camera == f"camera {block.cameras[7]}"


def found(rows, similarities, **more):
    both = {"camera_rows": rows, "camera_similarities": similarities}
    return {"rows": rows, "similarities": similarities, **both, **more}


def test_results_that_differ_end_the_run():
    exact = found([[4, 2, 9]], [[0.9, 0.5, 0.4]])
    require_equal("some", exact, exact)
    require_equal("a tie at the end", found([[4, 2, 7]], [[0.9, 0.5, 0.4]]), exact)
    with pytest.raises(ValueError, match=r"^some: similarities differ .* by 0\.1, allowed is 1e-05; 0 of 3"):
        require_equal("some", found([[4, 2, 9]], [[0.9, 0.6, 0.4]]), exact)
    with pytest.raises(ValueError, match="1 of 3 entries are others"):
        require_equal("some", found([[4, 3, 9]], [[0.9, 0.5, 0.4]]), exact)
    assert recall(found([[4, 3, 9]], []), found([[4, 2, 9]], [])) == pytest.approx(2 / works.K)


def test_the_table_shows_ratios_to_the_product():
    product = {"one_ms": 2.0, "q64_ms": 30.0, "camera_ms": 4.0, "megabytes": 2100.4, "add_seconds": 0.5}
    ours = {"one_ms": 7.0, "q64_ms": 1234.0, "camera_ms": 5.0, "megabytes": 900.0, "open_seconds": 1.26}
    rows = [(1000, "gallery, flat", ours | {"disk_megabytes": 4400.0, "recall": 0.9876})]
    assert table([*rows, (1000, "matrix product", product)]).splitlines()[2:] == [
        "| 1,000 | gallery, flat | – | 1.26 s | 7 ms (3.5×) | 1234 ms (41.1×) | 5 ms (1.25×) | 900 | 4,400 "
        "| 0.988 |",
        "| 1,000 | matrix product | 2,000 | – | 2 ms | 30 ms | 4 ms | 2,100 | – | 1.000 |",
    ]
