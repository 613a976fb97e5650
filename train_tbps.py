"""Train TBPS-CLIP: both towers of CLIP on pairs of images and sentences, for search by sentence."""

import functools

from config.arguments import add_resume, run_program
from processor import METHODS, train

main = functools.partial(
    run_program,
    functools.partial(train, method=METHODS["tbps"]),
    METHODS["tbps"].tree,
    description=__doc__,
    default_config="configs/tbps/vit_tbps.yml",
    add_options=add_resume,
)

if __name__ == "__main__":
    main()
