"""Test a CLIP-ReID checkpoint, or one of any other method: only its image side is used."""

import functools

from config import cfg
from config.arguments import run_program
from processor import test

main = functools.partial(
    run_program, test, cfg, description=__doc__, default_config="configs/person/vit_clipreid.yml"
)

if __name__ == "__main__":
    main()
