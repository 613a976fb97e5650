"""The course of a run, and whether two are the same."""

import json

import pytest


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_course(one, other, tolerance=1e-5):
    assert len(one) == len(other) > 0
    for wanted, got in zip(one, other, strict=True):
        assert wanted.keys() == got.keys()
        for key in wanted.keys() - {"seconds", "time"}:
            assert got[key] == (
                wanted[key] if isinstance(wanted[key], str) else pytest.approx(wanted[key], rel=tolerance)
            ), (wanted["stage"], wanted["epoch"], key)
