"""Two trees share all but SOLVER, the third has other defaults; every key carries a comment."""

import re

import pytest

from config import cfg, cfg_base, cfg_pcl
from config.check import unused_reasons
from config.load import leaves

_ASSIGNMENT = re.compile(r"^    (?:node|tree(?:\.SOLVER)?)\.([A-Z0-9_]+) = (?!_|solver)")


@pytest.fixture(scope="module")
def comments(repository):
    """The comment above each key, by the key's last name."""
    found: dict[str, list[str]] = {}
    files = [repository / f"config/{name}.py" for name in ("defaults", "solver_defaults")]
    lines = [line for file in files for line in file.read_text().splitlines()]
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
    only_main |= {"ITERS", "SCHEDULE_START"}
    assert main.keys() - cfg.SOLVER.STAGE1.keys() == only_main


def test_pcl_differs_from_the_baseline_in_these_defaults():
    ours, theirs = leaves(cfg_pcl), leaves(cfg_base)
    assert ours.keys() == theirs.keys()
    assert {key: value for key, value in ours.items() if value != theirs[key]} == {
        "MODEL.PCL_LOSS_WEIGHT": 1.0,
        "MODEL.TRIPLET_LOSS_WEIGHT": 0.0,
        "MODEL.CLASSIFIER": "joint",
        "MODEL.FREEZE_PATCHES": True,
        "INPUT.RE_MODE": "constant",
        "INPUT.TEST_RESIZE": "bicubic",
        "DATALOADER.SAMPLER": "softmax_triplet",
        "SOLVER.ITERS": 200,
        "SOLVER.SCHEDULE_START": 0,
        "SOLVER.WEIGHT_DECAY_BIAS": -1.0,
    }


def test_trees_hold_no_common_objects():
    assert cfg.MODEL is not cfg_base.MODEL
    assert cfg.SOLVER.STAGE2.STEPS is not cfg_base.SOLVER.STEPS
