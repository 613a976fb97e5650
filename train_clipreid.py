"""Train CLIP-ReID in two stages: a prompt for every identity, then the image tower against the texts."""

import argparse
import functools

from yacs.config import CfgNode

from config import cfg as defaults
from config.arguments import add_resume, run_program


def run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Train with the settings and options of the command line."""
    from processor import METHODS, train

    train(cfg, args, method=METHODS["clipreid"])


main = functools.partial(
    run_program,
    run,
    defaults,
    description=__doc__,
    default_config="configs/person/vit_clipreid.yml",
    add_options=add_resume,
)

if __name__ == "__main__":
    main()
