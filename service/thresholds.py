"""Distance thresholds as options give them: a number, or a file that tools/threshold.py wrote."""

from __future__ import annotations

import math
from pathlib import Path

from utils.text import printable, quoted
from utils.untrusted.forms import Form, read_json


class _Point(Form):
    far: float
    threshold: float | None
    reason: str | None = None


class _Report(Form):
    unit_norm: bool
    accept: list[_Point]


def read_threshold(value: str, far: float | None = None) -> float:
    """The largest squared distance of somebody: `value` as a number, or from the threshold.json it names.

    `far` chooses among the file's false accept rates; None is the lowest that has a threshold. Raises
    ValueError for a number that is no distance, a file that has no such threshold and one about features
    that were not normalised; FileNotFoundError or OSError for one that cannot be read.
    """
    try:
        number = float(value)
    except ValueError:
        return _from_file(value, far)
    if not 0 <= number < math.inf:
        raise ValueError(f"threshold {quoted(value)}; allowed: a distance from 0 on, or a threshold.json")
    if far is not None:
        raise ValueError(f"far {far:g} is given with threshold {number:g}; allowed: with a threshold.json")
    return number


def _from_file(path: str, far: float | None) -> float:
    if not Path(path).suffix and not Path(path).exists():
        raise ValueError(f"threshold {quoted(path)}; allowed: a distance from 0 on, or a threshold.json")
    report = read_json(path, _Report)
    where = printable(path)
    if not report.unit_norm:
        raise ValueError(f"{where} is about features that are not of norm 1, as those of a gallery are")
    known = {point.far: point.threshold for point in report.accept if point.threshold is not None}
    if far is None:
        if not known:
            raise ValueError(f"{where} has no threshold: {_reason(report)}")
        return known[min(known)]
    rate = next((rate for rate in known if math.isclose(rate, far, rel_tol=1e-9)), None)
    if rate is None:
        rates = ", ".join(f"{rate:g}" for rate in sorted(known)) or "none"
        raise ValueError(f"{where} has no threshold for the false accept rate {far:g}; it has: {rates}")
    return known[rate]


def _reason(report: _Report) -> str:
    return next((printable(point.reason) for point in report.accept if point.reason), "its list is empty")
