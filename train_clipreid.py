"""Train CLIP-ReID in two stages: a prompt for every identity, then the image tower against the texts."""

import functools

from config import cfg
from config.arguments import add_resume, run_program
from processor import train

main = functools.partial(
    run_program,
    functools.partial(train, recipe="clipreid"),
    cfg,
    description=__doc__,
    default_config="configs/person/vit_clipreid.yml",
    add_options=add_resume,
)

if __name__ == "__main__":
    main()
