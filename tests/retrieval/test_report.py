"""Log lines in the published wording, and JSON."""

import json
import logging

import numpy as np
import pytest

from retrieval import RetrievalMetrics, log_metrics, metrics_record, write_metrics

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
