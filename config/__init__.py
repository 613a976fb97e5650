"""The configuration: a tree of default values for each method, loading, checks, the programs' arguments.

Clone a tree before changing it, or let `config.load.load_config` do so.
"""

from config import shared
from config.keys import KeyTable, with_defaults
from config.methods import baseline, captions, clipreid, graph, pcl, prompts, tbps, tbps_published

__all__ = ["TABLES", "cfg", "cfg_base", "cfg_pcl", "cfg_tbps"]

_IMAGE = {**shared.KEYS, **pcl.KEYS, **prompts.IMAGE_KEYS}
_ONE_STAGE = {**_IMAGE, **baseline.KEYS, **graph.ONE_STAGE}

CLIPREID = KeyTable(
    ("train_clipreid.py", "test_clipreid.py"),
    {**_IMAGE, **clipreid.KEYS, **prompts.KEYS, **graph.TWO_STAGES, **captions.KEYS},
    checks=(shared.check, pcl.check, graph.check, graph.check_stage1, captions.check),
    training_checks=(shared.check_training, pcl.require_identities, clipreid.check_start),
    examples=shared.EXAMPLES,
)
BASELINE = KeyTable(
    ("train.py", "test.py"),
    _ONE_STAGE,
    checks=(shared.check, pcl.check, graph.check),
    training_checks=(shared.check_training, pcl.require_identities),
    examples=shared.EXAMPLES,
)
PCL = KeyTable(
    ("train_pcl.py", "test_pcl.py"),
    with_defaults(_ONE_STAGE, pcl.DEFAULTS),
    checks=(shared.check, pcl.check, graph.check),
    training_checks=(shared.check_training,),
    examples=shared.EXAMPLES,
)
TBPS = KeyTable(
    ("train_tbps.py", "test_tbps.py"),
    tbps.KEYS,
    checks=(tbps.check,),
    training_checks=(shared.check_training,),
    published=tbps_published.PUBLISHED,
    examples=tbps.EXAMPLES,
)
TABLES = (CLIPREID, BASELINE, PCL, TBPS)

cfg, cfg_base, cfg_pcl, cfg_tbps = (table.tree() for table in TABLES)
