"""Train TBPS-CLIP: both towers of CLIP on pairs of images and sentences, for search by sentence."""

import argparse
import functools

from yacs.config import CfgNode

from config import cfg_tbps
from config.arguments import Parser, add_resume, add_simplified, run_program


def add_options(parser: Parser) -> None:
    """Add --resume and --simplified."""
    add_resume(parser)
    add_simplified(parser)


def run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Train with the settings and options of the command line."""
    from processor import METHODS, train

    train(cfg, args, method=METHODS["tbps"])


main = functools.partial(
    run_program,
    run,
    cfg_tbps,
    description=__doc__,
    default_config="configs/tbps/vit_tbps.yml",
    add_options=add_options,
)

if __name__ == "__main__":
    main()
