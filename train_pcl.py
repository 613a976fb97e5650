"""Train PCL-CLIP: the image tower against a prototype of each identity, or of each cluster without them."""

import argparse
import functools

from yacs.config import CfgNode

from config import cfg_pcl
from config.arguments import add_resume, run_program


def run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Train with the settings and options of the command line."""
    from processor import METHODS, train

    train(cfg, args, method=METHODS["pcl"])


main = functools.partial(
    run_program,
    run,
    cfg_pcl,
    description=__doc__,
    default_config="configs/pcl/vit_pcl.yml",
    add_options=add_resume,
)

if __name__ == "__main__":
    main()
