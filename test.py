"""Test a checkpoint of the one-stage baseline, or of any other method: only its image side is used."""

import functools

from config.arguments import run_program
from processor import METHODS, test

main = functools.partial(
    run_program,
    functools.partial(test, method=METHODS["baseline"]),
    METHODS["baseline"].tree,
    description=__doc__,
    default_config="configs/person/vit_base.yml",
)

if __name__ == "__main__":
    main()
