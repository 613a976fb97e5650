"""The benchmark of exported models with toy towers."""

import json

import pytest
import torch

from benchmarks.export.__main__ import CASES, features_table, main, make_graph, parity_table, speed_table
from benchmarks.export.runners import RUNNERS
from tests.toys import draw_captions, save_text_model, write_tower

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.__version__ < "2.7", reason="torch is too old"),
]


@pytest.fixture
def keys(tmp_path):
    """Options for a toy tower and small images."""
    tower = write_tower(tmp_path / "toy.json")
    sizes = ["INPUT.SIZE_TRAIN", "[32, 16]", "INPUT.SIZE_TEST", "[32, 16]"]
    return ["--repeats", "1", "--keys", "MODEL.NAME", str(tower), "MODEL.STRIDE_SIZE", "[8, 8]", *sizes]


def test_a_record_and_both_tables(keys, capfd):
    main(["--models", "search-texts", "--batch", "2", *keys])
    lines = [line for line in capfd.readouterr().out.splitlines() if line[:1] in ("{", "|")]
    record = json.loads(lines[0])
    assert record["model"] == "text search, texts, toy, 77 tokens" and record["batch"] == 2
    assert record["cosine"]["onnxruntime"] > 0.99999 > record["cosine"]["onnxruntime, int8"] > 0.99
    assert max(record["megabytes"]["fp16"], record["megabytes"]["int8"]) < record["megabytes"]["fp32"]
    assert "\n".join(lines[1:4]) == parity_table([record])
    assert "\n".join(lines[4:]) == speed_table([record])
    torch_seconds, seconds = (record["seconds"][name] for name in ("torch", "onnxruntime"))
    assert f"| {2 / torch_seconds:.1f} | {2 / seconds:.1f} ({torch_seconds / seconds:.2f}×) |" in lines[-1]


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"rn50"}))
def test_the_graphs_of_all_models(keys, tmp_path, name):
    graph, title = make_graph(CASES[name], tmp_path, keys[3:])
    assert graph.facts["kind"] == CASES[name].kind and title.startswith(f"{CASES[name].title}, toy, ")
    assert ("32 × 16" in title) == (graph.facts["kind"] == "image") == (graph.inputs == ("images",))


def test_features_of_weights(toy_towers, tmp_path, capsys):
    weight, data = save_text_model(tmp_path / "toy-vit_3.pth"), draw_captions(tmp_path / "data")
    main(["--weight", str(weight), "--data", f"captions={data}"])
    lines = capsys.readouterr().out.splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert [each["items"] for each in records if each["runner"] == "torch"] == [8, 16]  # images, captions
    assert {each["mAP"] for each in records if each["runner"] in ("torch", "onnxruntime")} == {
        records[0]["mAP"]
    }
    found = {each["runner"]: each["least_cosine"] for each in records if each["side"] == "text"}
    assert found["torch"] == pytest.approx(1) and 0.99 < found["onnxruntime, int8"] < 0.999999
    assert features_table(records) in "\n".join(lines)


def test_a_runner_that_is_not_installed():
    record = {"model": "a", "batch": 4, "seconds": {"torch": 2.0, "onnxruntime": 0.5}, "cosine": {}}
    row = speed_table([record]).splitlines()[-1]
    assert row == f"| a | 2.0 | 8.0 (4.00×) |{' – |' * (len(RUNNERS) - 1)}"
