"""Test a checkpoint of the one-stage baseline, or of any other method: only its image side is used."""

import argparse
import functools

from yacs.config import CfgNode

from config import cfg_base
from config.arguments import run_program


def run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Test with the settings and options of the command line."""
    from processor import METHODS, test

    test(cfg, args, method=METHODS["baseline"])


main = functools.partial(
    run_program,
    run,
    cfg_base,
    description=__doc__,
    default_config="configs/person/vit_base.yml",
)

if __name__ == "__main__":
    main()
