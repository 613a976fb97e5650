"""Test a text search model: for each sentence of the test split, images are ranked."""

import functools

from config.arguments import add_simplified, run_program
from processor import METHODS, test

main = functools.partial(
    run_program,
    functools.partial(test, method=METHODS["tbps"]),
    METHODS["tbps"].tree,
    description=__doc__,
    default_config="configs/tbps/vit_tbps.yml",
    add_options=add_simplified,
)

if __name__ == "__main__":
    main()
