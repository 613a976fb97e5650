"""Train the one-stage baseline: CLIP's image tower with identity and triplet losses."""

import functools

from config.arguments import add_resume, run_program
from processor import METHODS, train

main = functools.partial(
    run_program,
    functools.partial(train, method=METHODS["baseline"]),
    METHODS["baseline"].tree,
    description=__doc__,
    default_config="configs/person/vit_base.yml",
    add_options=add_resume,
)

if __name__ == "__main__":
    main()
