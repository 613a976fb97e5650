"""docs/results.md has the tables that the kept receipts give, and receipts are kept without foreign paths."""

import json
import re

import pytest

from benchmarks.results import __main__ as results
from benchmarks.results.__main__ import PAGE, RECEIPTS, TABLES, keep, main, page
from utils.untrusted.receipts import Data, Section, Split, read_receipt, write_section

TEXT = "# Page\n\n<!-- receipts: people -->\nold\n<!-- end -->\nrest\n"


def section(**changes):
    data = Data(name="market1501", splits={"train": Split(images=1280, identities=80, cameras=4, sha256="")})
    known = {"method": "clipreid", "status": "finished", "data": data, "seed": 1, "seconds": 90.0}
    known |= {"metrics": {"rank1": 0.975, "mAP": 0.875, "mINP": 0.5, "num_valid": 160.0}}
    known |= {"intervals": {name: [0.25, 0.75] for name in ("rank1", "mAP", "mINP")}}
    return Section(**known | changes)


def test_the_page_is_made_from_the_receipts():
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "make results"
    named = re.findall(r"<!-- receipts: (\S+) -->", text)
    assert sorted(named) == sorted(["runs", *TABLES])


@pytest.mark.parametrize("path", sorted(RECEIPTS.glob("*.json")), ids=lambda path: path.stem)
def test_kept_receipts_are_whole_and_tell_no_folder_of_a_machine(path):
    receipt = read_receipt(path)
    assert receipt.train is not None and receipt.train.status == "finished"
    assert re.fullmatch("[0-9a-f]{40}", receipt.train.commit)
    assert not re.search(r'"/(home|root|tmp|work|mnt|Users)/', path.read_text(encoding="utf-8"))


def test_tables_hold_metrics_and_intervals(tmp_path):
    write_section(tmp_path, "train", section())
    write_section(tmp_path, "test", section(peak_memory=5 * 10**8))
    keep("people", tmp_path, tmp_path)
    lines = page(TEXT, tmp_path).splitlines()
    assert lines[3:6] == [
        "| in % [95 % interval] | Rank-1 | mAP | mINP | queries |",
        "|---|---|---|---|---|",
        "| CLIP-ReID, after 40 epochs of stage 2 | 97.5 [25.0, 75.0] | 87.5 [25.0, 75.0] "
        "| 50.0 [25.0, 75.0] | 160 |",
    ]
    assert lines[6:] == ["<!-- end -->", "rest"]
    lines = page(TEXT.replace("people", "runs"), tmp_path).splitlines()
    assert lines[5].startswith("| `people` | clipreid | 1,280 of 80 identities | 1 |  | 1.5 | – |")


def test_paths_below_the_working_directory_become_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_section(tmp_path, "train", section(config={"OUTPUT_DIR": f"{tmp_path}/logs/run"}))
    kept = json.loads(keep("one", tmp_path, tmp_path).read_text())
    assert kept["train"]["config"]["OUTPUT_DIR"] == "logs/run"


def test_errors(tmp_path, capsys, monkeypatch):
    with pytest.raises(ValueError, match=r"table 'odd' is unknown; allowed: runs, people"):
        page(TEXT.replace("people", "odd"), tmp_path)
    write_section(tmp_path, "train", section())
    keep("people", tmp_path, tmp_path)
    with pytest.raises(ValueError, match=r"people\.json has no section 'test'"):
        page(TEXT, tmp_path)
    write_section(tmp_path, "train", section(status="stopped"))
    with pytest.raises(ValueError, match=r"is of a run that is stopped; allowed: a finished one"):
        keep("people", tmp_path, tmp_path)
    monkeypatch.setattr(results, "PAGE", tmp_path / "page.md")
    for words in (["--keep", "people"], ["--keep", f"people={tmp_path / 'none'}"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_the_command_writes_the_page(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(results, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text("# No table\n")
    assert main([]) == 0
    assert (tmp_path / "page.md").read_text() == "# No table\n"
    assert "page.md is written" in capsys.readouterr().out
