"""The tables of keys, the trees that follow from them, and the page of keys."""

import pickle

import pytest

from config import TABLES, cfg, cfg_base, cfg_pcl, cfg_tbps
from config.keys import table_of
from config.load import leaves, load_config
from config.page import PAGE, page


@pytest.mark.parametrize("table", TABLES)
def test_every_key_is_declared_whole(table):
    values = leaves(table.tree())
    assert values == {name: key.default for name, key in table.keys.items()}
    for name, key in table.keys.items():
        assert len(key.comment) > 10 and key.comment.endswith("."), name
        assert not (key.unused and (key.needs or key.fixed or key.common)), name
        assert key.rule is None or key.rule.holds(key.default), name
        assert values.keys() >= set(key.needed(name)), name


def test_copies_know_their_table():
    for tree, table in zip((cfg, cfg_base, cfg_pcl, cfg_tbps), TABLES, strict=True):
        for copied in (tree.clone(), load_config(tree), pickle.loads(pickle.dumps(tree))):
            assert table_of(copied) is table and leaves(copied) == leaves(tree)


def test_trees_hold_no_common_objects():
    assert cfg.MODEL is not cfg_base.MODEL
    assert cfg.SOLVER.STAGE2.STEPS is not cfg_base.SOLVER.STEPS


def test_methods_share_what_is_not_theirs():
    """A file without stages means the same to the two-stage and the one-stage programs."""
    two, one = (
        {
            name: value
            for name, value in leaves(tree).items()
            if not name.startswith(("SOLVER.", "MODEL.PROMPT."))
        }
        for tree in (cfg, cfg_base)
    )
    assert two == one | {"MODEL.TEXT": "prompts", "DATASETS.CAPTIONS": ""}
    shared = cfg.SOLVER.keys() - {"STAGE1", "STAGE2"}
    of_prompts = {"PROMPTS", "GAUSS_MEAN", "GAUSS_STD", "CAPTIONS", "CAPTIONS_EVERY"}
    assert {k: v for k, v in cfg.SOLVER.STAGE2.items() if k not in of_prompts} == {
        k: v for k, v in cfg_base.SOLVER.items() if k not in shared
    }


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


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make keys`"


def test_the_page_has_every_key():
    text = page()
    assert all(f"`{name}`" in text for table in TABLES for name in table.keys)
