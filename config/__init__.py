"""The configuration: three default key trees, loading, checks, and the programs' arguments.

`cfg` is the two-stage tree (train_clipreid.py, test_clipreid.py), `cfg_base` the one-stage tree (train.py,
test.py), `cfg_pcl` the one-stage tree with the defaults of PCL-CLIP (train_pcl.py, test_pcl.py). Clone a tree
before changing it, or let `config.load.load_config` do so.
"""

from config.defaults import cfg, cfg_base, cfg_pcl

__all__ = ["cfg", "cfg_base", "cfg_pcl"]
