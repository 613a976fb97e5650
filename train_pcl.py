"""Train PCL-CLIP: the image tower against a prototype of each identity, or of each cluster without them."""

import functools

from config.arguments import add_resume, run_program
from processor import METHODS, train

main = functools.partial(
    run_program,
    functools.partial(train, method=METHODS["pcl"]),
    METHODS["pcl"].tree,
    description=__doc__,
    default_config="configs/pcl/vit_pcl.yml",
    add_options=add_resume,
)

if __name__ == "__main__":
    main()
