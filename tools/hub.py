"""Put a model into a folder as a Hugging Face Hub has it, and upload such a folder.

python tools/hub.py save --weight logs/market/ViT-B-16_60.pth --out market_vit --repo org/name --license mit
python tools/hub.py push --folder market_vit org/name

Everything that takes weights takes the folder, and `hf-hub:org/name` after the upload.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, say
from config.errors import as_keys
from tools.features.finding import pair
from utils.hub import README, push_folder
from utils.logger import setup_logger


def save(args: argparse.Namespace) -> None:
    """Write weights, card and README of --weight to --out. Raises ValueError or OSError."""
    from model import (
        Publication,
        is_text_search_file,
        load_reid_model,
        load_text_search_model,
        save_for_hub,
    )

    load = load_text_search_model if is_text_search_file(args.weight) else load_reid_model
    with as_keys({"name": "--model", "size": "--size"}):
        model, info = load(args.weight, pair(args.size), name=args.model)
    publication = Publication(args.metrics, args.license, args.data_license, args.repo)
    path = save_for_hub(model, info, args.out, publication)
    say("%s, its card and %s: look through the README before a push", path, README)


def push(args: argparse.Namespace) -> None:
    """Upload --folder. Raises ValueError or OSError."""
    say("%s", push_folder(args.folder, args.repo, private=args.private))


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or file, or for a hub."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="save|push")
    told = "write model.safetensors, config.json and README.md"
    command = commands.add_parser("save", help=told, description=told, allow_abbrev=False)
    command.set_defaults(run=save)
    add = command.add_argument
    add("--weight", required=True, metavar="FILE", help="model of re-id or text search: ours, or published")
    add("--out", required=True, type=Path, metavar="DIR", help="folder to write to")
    add("--metrics", type=Path, metavar="FILE", help="metrics.json of a test, for the README's results")
    add("--license", default="", metavar="NAME", help="licence of the weights, as the hub names it: mit …")
    add("--data-license", default="", metavar="TEXT", help="licence or terms of the training data")
    add("--repo", default="org/name", metavar="ORG/NAME", help="what the README loads (default: %(default)s)")
    add("--model", metavar="NAME", help="MODEL.NAME (default: from model card, file name or shapes)")
    size = "image size in pixels (default: the model card's, else from shapes)"
    add("--size", type=int, nargs=2, metavar=("H", "W"), help=size)
    told = "upload a folder that `save` wrote; the login is that of `hf auth login` or HF_TOKEN"
    command = commands.add_parser("push", help=told, description=told, allow_abbrev=False)
    command.set_defaults(run=push)
    command.add_argument("repo", metavar="ORG/NAME", help="repository; made where there is none")
    command.add_argument("--folder", required=True, type=Path, metavar="DIR", help="what `save` wrote")
    command.add_argument("--private", action="store_true", help="a new repository is for its owner only")
    args = parser.parse_args(argv)
    setup_logger(None, "")
    with end_in_one_line():
        args.run(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
