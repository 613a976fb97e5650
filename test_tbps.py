"""Test a text search model: for each sentence of the test split, images are ranked."""

import argparse
import functools

from yacs.config import CfgNode

from config import cfg_tbps
from config.arguments import add_simplified, run_program


def run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Test with the settings and options of the command line."""
    from processor import METHODS, test

    test(cfg, args, method=METHODS["tbps"])


main = functools.partial(
    run_program,
    run,
    cfg_tbps,
    description=__doc__,
    default_config="configs/tbps/vit_tbps.yml",
    add_options=add_simplified,
)

if __name__ == "__main__":
    main()
