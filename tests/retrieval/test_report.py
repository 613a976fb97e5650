"""Log lines in the published wording, and JSON."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from retrieval import RetrievalMetrics, log_metrics, metrics_lines, metrics_record, write_metrics

METRICS = RetrievalMetrics(np.array([0.5, 0.75, 0.8, 0.9, 0.954]), mAP=0.8964, mINP=0.25, num_valid=7)
RECORD = {"mAP": 0.8964, "mINP": 0.25, "rank1": 0.5, "rank5": 0.954, "rank10": 0.954, "num_valid": 7}


def test_result_lines(caplog):
    with caplog.at_level(logging.INFO, logger="transreid"):
        log_metrics(METRICS, "Validation Results ")
    assert caplog.messages == [
        "Validation Results ",
        "mAP: 89.6%",
        "CMC curve, Rank-1  :50.0%",
        "CMC curve, Rank-5  :95.4%",
        "CMC curve, Rank-10 :95.4%",
        "mINP: 25.0%",
    ]


def test_named_trials_have_a_line_each():
    better = RetrievalMetrics(np.array([0.75, 1.0]), mAP=0.9, mINP=0.5, num_valid=3)
    mean = replace(METRICS, named={"caption": METRICS, "caption_zh": better})
    assert metrics_lines(mean) == [
        "           |  Rank-1 |  Rank-5 | Rank-10 |     mAP |    mINP",
        "-----------|---------|---------|---------|---------|--------",
        "caption    |   50.0% |   95.4% |   95.4% |   89.6% |   25.0%",
        "caption_zh |   75.0% |  100.0% |  100.0% |   90.0% |   50.0%",
        "mean       |   50.0% |   95.4% |   95.4% |   89.6% |   25.0%",
    ]
    record = metrics_record(mean)
    assert record.items() >= RECORD.items() and len(record) == 3 * len(RECORD)
    assert (record["caption_mAP"], record["caption_zh_rank1"], record["caption_zh_num_valid"]) == (
        0.8964,
        0.75,
        3,
    )


def test_a_file_has_the_curves_of_named_trials(tmp_path):
    file = tmp_path / "metrics.json"
    write_metrics(file, replace(METRICS, named={"caption_zh": METRICS}), {})
    found = json.loads(file.read_text())
    assert found["caption_zh_cmc"] == found["cmc"] == METRICS.cmc.tolist()


def test_names_of_trials_cannot_reach_the_terminal():
    lines = metrics_lines(replace(METRICS, named={"a\n\x1b[0m" + 100 * "x": METRICS}))
    assert len(lines) == 4 and all(line.isprintable() for line in lines) and len(lines[0]) < 100


def test_record_is_plain():
    assert metrics_record(METRICS) == RECORD
    assert json.loads(json.dumps(metrics_record(METRICS))) == RECORD


def test_file_holds_curve_and_protocol(tmp_path):
    file = tmp_path / "metrics.json"
    write_metrics(file, METRICS, {"dataset": "veri", "rerank": {"k1": 50}})
    expected = {"dataset": "veri", "rerank": {"k1": 50}, **RECORD, "cmc": [0.5, 0.75, 0.8, 0.9, 0.954]}
    assert json.loads(file.read_text()) == expected


def test_a_former_file_outlives_a_failure(tmp_path):
    file = tmp_path / "metrics.json"
    write_metrics(file, METRICS, {})
    before = file.read_text()
    with pytest.raises(TypeError, match="JSON"):
        write_metrics(file, METRICS, {"dataset": object()})
    assert file.read_text() == before and len(list(tmp_path.iterdir())) == 1
