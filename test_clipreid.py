"""Test a CLIP-ReID checkpoint, or one of any other method: only its image side is used."""

import argparse
import functools

from yacs.config import CfgNode

from config import cfg as defaults
from config.arguments import run_program


def run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Test with the settings and options of the command line."""
    from processor import METHODS, test

    test(cfg, args, method=METHODS["clipreid"])


main = functools.partial(
    run_program,
    run,
    defaults,
    description=__doc__,
    default_config="configs/person/vit_clipreid.yml",
)

if __name__ == "__main__":
    main()
