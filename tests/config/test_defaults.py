"""The two trees share all but SOLVER, and every key carries a comment."""

import re

import pytest

from config import cfg, cfg_base
from config.check import unused_reasons
from config.load import leaves

_ASSIGNMENT = re.compile(r"^    (?:node|tree(?:\.SOLVER)?)\.([A-Z0-9_]+) = (?!_|solver)")


@pytest.fixture(scope="module")
def comments(repository):
    """The comment above each key of defaults.py, by the key's last name."""
    found: dict[str, list[str]] = {}
    lines = (repository / "config/defaults.py").read_text().splitlines()
    for number, line in enumerate(lines):
        if match := _ASSIGNMENT.match(line):
            start = number
            while lines[start - 1].lstrip().startswith("#"):
                start -= 1
            text = " ".join(comment.strip("# ") for comment in lines[start:number])
            found.setdefault(match[1], []).append(text)
    return found


@pytest.mark.parametrize("tree", [cfg, cfg_base])
def test_every_key_has_a_comment(comments, tree):
    for key in leaves(tree):
        texts = comments.get(key.rpartition(".")[2], [])
        assert texts and all(len(text) > 10 for text in texts), key


def test_no_commented_key_is_missing_from_the_trees(comments):
    names = {key.rpartition(".")[2] for tree in (cfg, cfg_base) for key in leaves(tree)}
    assert set(comments) == names


def test_comments_call_exactly_the_unused_keys_unused(comments):
    always = {
        key.rpartition(".")[2]
        for key in unused_reasons(cfg_base).keys() & unused_reasons(cfg).keys()
        if not key.startswith("SOLVER")
    } | {"COSINE_MARGIN", "COSINE_SCALE", "EVAL"}
    assert {name for name, texts in comments.items() if texts[0].startswith("Unused")} == always
    sometimes = {key.rpartition(".")[2] for tree in (cfg, cfg_base) for key in unused_reasons(tree)} - always
    assert {name for name, texts in comments.items() if "nused by" in texts[0]} == sometimes


def test_trees_differ_in_solver_only():
    assert {k: v for k, v in cfg.items() if k != "SOLVER"} == {
        k: v for k, v in cfg_base.items() if k != "SOLVER"
    }
    shared = cfg.SOLVER.keys() - {"STAGE1", "STAGE2"}
    main = {k: v for k, v in cfg_base.SOLVER.items() if k not in shared}
    assert dict(cfg.SOLVER.STAGE2) == main
    only_main = {"STEPS", "GAMMA", "BIAS_LR_FACTOR", "LARGE_FC_LR", "CENTER_LR", "CENTER_LOSS_WEIGHT"}
    assert main.keys() - cfg.SOLVER.STAGE1.keys() == only_main


def test_trees_hold_no_common_objects():
    assert cfg.MODEL is not cfg_base.MODEL
    assert cfg.SOLVER.STAGE2.STEPS is not cfg_base.SOLVER.STEPS
