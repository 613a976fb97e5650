"""Rows of the table: a fault, its outcome, and whether that is as it should be."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.faults.runs import Ended

EQUAL = "resumed, equal"


class Row(NamedTuple):
    """A fault, its outcome, and whether that is as it should be."""

    name: str
    fault: str
    outcome: str
    ok: bool


def table(rows: Iterable[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| fault | outcome | as it should be |", "|---|---|---|"]
    return "\n".join(lines + [f"| {row.fault} | {row.outcome} | {_yes(row.ok)} |" for row in rows])


def _yes(ok: bool) -> str:
    return "yes" if ok else "**no**"


def judge(name: str, fault: str, *findings: tuple[str, str]) -> Row:
    """A row of findings: a fact to show, or the problem that takes its place, '' for none."""
    shown = [f"PROBLEM: {problem}" if problem else fact for fact, problem in findings]
    return Row(name, fault, "; ".join(filter(None, shown)), not any(problem for _, problem in findings))


def unless(holds: bool, problem: str) -> str:
    """The problem, or '' if the condition holds."""
    return "" if holds else problem


def status_problem(ended: Ended, status: int) -> str:
    """The problem if a run ended with another status."""
    return unless(ended.status == status, f"status {ended.status}, not {status}: {_last(ended)}")


def line_problem(ended: Ended, *words: str) -> str:
    """The problem if stderr is anything but one line of an error with these words."""
    lines = ended.error_lines
    if len(lines) != 1 or not lines[0].startswith("error: "):
        return f"{len(lines)} lines on stderr, the last: {_last(ended)}"
    missing = [word for word in words if word not in lines[0]]
    return unless(not missing, f"{', '.join(missing)} not in: {lines[0]}")


def equality_problem(differences: Sequence[str]) -> str:
    """The problem if a resumed run differs from an uninterrupted one."""
    return unless(not differences, f"resumed, differs in {', '.join(differences[:4])}")


def file_problem(broken: Sequence[str]) -> str:
    """The problem if files of a run are not whole."""
    return unless(not broken, f"not readable: {', '.join(broken[:4])}")


def place_in_words(place: tuple[str, int, int] | None) -> str:
    """The position of a run in its `last.pt`."""
    if place is None:
        return "no last.pt"
    return (
        f"last.pt at {place[0]}, epoch {place[1]}, iteration {place[2]}" if place[0] else "last.pt finished"
    )


def _last(ended: Ended) -> str:
    return (ended.error_lines or ["nothing on stderr"])[-1][:200]
