"""Test a PCL-CLIP checkpoint, or one of any other method: only its image side is used."""

import argparse
import functools

from yacs.config import CfgNode

from config import cfg_pcl
from config.arguments import run_program


def run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Test with the settings and options of the command line."""
    from processor import METHODS, test

    test(cfg, args, method=METHODS["pcl"])


main = functools.partial(
    run_program,
    run,
    cfg_pcl,
    description=__doc__,
    default_config="configs/pcl/vit_pcl.yml",
)

if __name__ == "__main__":
    main()
