"""Test a PCL-CLIP checkpoint, or one of any other method: only its image side is used."""

import functools

from config import cfg_pcl
from config.arguments import run_program
from processor import test

main = functools.partial(
    run_program, test, cfg_pcl, description=__doc__, default_config="configs/pcl/vit_pcl.yml"
)

if __name__ == "__main__":
    main()
