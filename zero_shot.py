"""Test a checkpoint, or CLIP itself, with sentences about people's attributes next to the image features."""

import argparse
import math
import sys
from collections.abc import Sequence

from yacs.config import CfgNode

from config import cfg as defaults
from config.arguments import Parser, run_program

_MM, _WEIGHT = "--mm", 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; None reads sys.argv."""
    return run_program(
        run,
        defaults,
        description=__doc__,
        default_config="configs/prompts/coop.yml",
        argv=_with_weight(sys.argv[1:] if argv is None else argv),
        add_options=add_options,
    )


def run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Test with the settings and options of the command line."""
    from processor import zero_shot

    zero_shot(cfg, args)


def add_options(parser: Parser) -> None:
    """Add the options about attributes."""
    parser.add_argument(
        "--attributes",
        default="",
        metavar="FILE",
        help="market_attribute.mat, duke_attribute.mat, or a CSV file: identity and attributes, or sentence",
    )
    parser.add_argument(
        _MM,
        type=_weight,
        metavar="[WEIGHT]",
        help="fuse image features with WEIGHT times the probabilities that sentences describe the image; "
        f"{_MM} alone is {_WEIGHT:g}",
    )
    parser.add_argument(
        "--augmented_template", action="store_true", help="56 sentences a person instead of one"
    )


def _with_weight(argv: Sequence[str]) -> list[str]:
    """The words with a weight behind each --mm, of which argparse would make the first KEY."""
    words = list(argv)
    for at in range(len(words) - 1, -1, -1):
        if words[at] == _MM and not _is_number(" ".join(words[at + 1 : at + 2])):
            words.insert(at + 1, str(_WEIGHT))
    return words


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _weight(text: str) -> float:
    if not (_is_number(text) and 0 <= float(text) < math.inf):
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: 0 or more")
    return float(text)


if __name__ == "__main__":
    main()
