"""Train the one-stage baseline: CLIP's image tower with identity and triplet losses."""

import argparse
import functools

from yacs.config import CfgNode

from config import cfg_base
from config.arguments import add_resume, run_program


def run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Train with the settings and options of the command line."""
    from processor import METHODS, train

    train(cfg, args, method=METHODS["baseline"])


main = functools.partial(
    run_program,
    run,
    cfg_base,
    description=__doc__,
    default_config="configs/person/vit_base.yml",
    add_options=add_resume,
)

if __name__ == "__main__":
    main()
