"""Train TBPS-CLIP: both towers of CLIP on pairs of images and sentences, for search by sentence."""

import functools

from config.arguments import Parser, add_resume, add_simplified, run_program
from processor import METHODS, train


def add_options(parser: Parser) -> None:
    """Add --resume and --simplified."""
    add_resume(parser)
    add_simplified(parser)


main = functools.partial(
    run_program,
    functools.partial(train, method=METHODS["tbps"]),
    METHODS["tbps"].tree,
    description=__doc__,
    default_config="configs/tbps/vit_tbps.yml",
    add_options=add_options,
)

if __name__ == "__main__":
    main()
