"""What is found in the folder of a run."""

import pytest

from config import cfg, cfg_base
from config.load import leaves, load_config
from tests.toys import SETTINGS, words
from tools.features.runs import last_checkpoint, read_run


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


def test_the_last_checkpoint_is_that_of_the_highest_epoch(tmp_path):
    touch(
        tmp_path, "a+b_9.pth", "a+b_10.pth", "a+b_stage1_120.pth", "a+b_best.pth", "a+b_11.json", "aab_12.pth"
    )
    assert last_checkpoint(tmp_path, "a+b") == tmp_path / "a+b_10.pth"
    with pytest.raises(FileNotFoundError, match=r"c_EPOCH\.pth"):
        last_checkpoint(tmp_path, "c")


@pytest.mark.parametrize("tree", [cfg, cfg_base], ids=["two stages", "one stage"])
def test_a_run_of_either_kind_is_read_with_its_own_keys(tmp_path, tree):
    given = SETTINGS | {"MODEL.NAME": "towers/toy.json", "MODEL.DIST_TRAIN": "True", "OUTPUT_DIR": "logs"}
    settings = load_config(tree, "", words(given))
    (tmp_path / "config.yml").write_text(settings.dump())
    touch(tmp_path, "toy_3.pth")
    found = leaves(read_run(tmp_path, ["DATASETS.TEST", "msmt17"]))
    changed = {"TEST.WEIGHT": str(tmp_path / "toy_3.pth"), "DATASETS.TEST": "msmt17"}
    assert found == leaves(settings) | changed | {"MODEL.DIST_TRAIN": False}
