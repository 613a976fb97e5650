"""Test a PCL-CLIP checkpoint, or one of any other method: only its image side is used."""

import functools

from config.arguments import run_program
from processor import METHODS, test

main = functools.partial(
    run_program,
    functools.partial(test, method=METHODS["pcl"]),
    METHODS["pcl"].tree,
    description=__doc__,
    default_config="configs/pcl/vit_pcl.yml",
)

if __name__ == "__main__":
    main()
