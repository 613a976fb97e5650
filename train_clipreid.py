"""Train CLIP-ReID in two stages: a prompt for every identity, then the image tower against the texts."""

import functools

from config.arguments import add_resume, run_program
from processor import METHODS, train

main = functools.partial(
    run_program,
    functools.partial(train, method=METHODS["clipreid"]),
    METHODS["clipreid"].tree,
    description=__doc__,
    default_config="configs/person/vit_clipreid.yml",
    add_options=add_resume,
)

if __name__ == "__main__":
    main()
