"""Search images by sentences, with a text search model: prints and draws the ranking of each sentence.

python tools/search.py --weight logs/tbps/ViT-B-16_5.pth --images people "a man with a blue backpack"

The folder gets ranking.html, ranking.png and images.npz, the features of the images: a later search encodes
new and changed images only.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, one_or_more, say
from config.errors import as_keys
from tools.features.finding import add_image_options, check_image_options, find_images, pair
from tools.ranking.report import SIMILARITY, Album, Report, count_items, make_rows
from utils.files import require_writable, sha256_of_file
from utils.logger import setup_logger
from utils.package import require_extra
from utils.text import composed, printable

if TYPE_CHECKING:
    from model import TextSearchInfo
    from retrieval import FeatureSet, Ranking
    from utils.precision import Precision

_logger = logging.getLogger("transreid.tools")


def search(args: argparse.Namespace) -> None:
    """Print the rankings that the options ask for, and write the page and the picture of them.

    Raises ValueError or OSError for options, sentences, images and files that cannot be used.
    """
    require_extra("plots")
    from datasets import log_oddities
    from model import load_text_search_model
    from processor import extract, extract_sentences
    from retrieval import rank_gallery
    from tools.features.images import readable_batches
    from tools.features.kept import keep_features
    from tools.ranking.pictures import publish
    from utils.device import select_device
    from utils.precision import inference_precision

    check_image_options(args)
    paths = find_images([args.images])
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    require_writable(out / "ranking.html", "--out")
    file = args.features or out / "images.npz"
    require_writable(file, "--features")
    device = select_device(args.device)
    precision = inference_precision(args.amp, device)
    with as_keys({"name": "--model", "size": "--size"}):
        model, info = load_text_search_model(args.weight, pair(args.size), name=args.model)
    # Before the images: a wrong sentence is an error at once, not after minutes.
    asked = list(dict.fromkeys(map(composed, args.sentences)))
    sentences = extract_sentences(model, asked, device, precision=precision)

    def encode(paths: Sequence[str]) -> FeatureSet:
        batches = readable_batches(paths, info, args, device)
        features = extract(
            model, batches, device, lambda batch: model.encode_image(batch.images), precision=precision
        )
        log_oddities(batches.oddities, len(paths))
        if batches.unreadable:
            _logger.warning("%d of %d images could not be read", batches.unreadable, len(paths))
        return features

    images = keep_features(file, paths, _made_with(args, info, precision), encode).normalized()
    query = replace(sentences, features=sentences.features.cpu())
    rankings = rank_gallery(query, images, range(len(query)), args.top, rule="all")
    _print(query, images, rankings)
    album = Album(names=sentences.names, upright=args.orientation == "exif")
    rows = make_rows(sentences, images, rankings, album, SIMILARITY)
    sentences_said = f"{len(query)} sentence{'s' * (len(query) > 1)}"
    facts = (sentences_said, f"gallery of {count_items(images)}")
    title = printable(f"{args.images} · {info.name or info.kind}")
    publish(Report(title, facts, SIMILARITY, "", rows), album, out)


def _made_with(args: argparse.Namespace, info: TextSearchInfo, precision: Precision) -> dict[str, Any]:
    """What the features of images depend on, in the words of feature files."""
    from utils.weights import split_choice

    file, choice = split_choice(args.weight)
    return {
        "weight": args.weight,
        "weight_sha256": sha256_of_file(file) + (choice and f"#{choice}"),
        "model": info.name or info.kind,
        "size": info.size,
        "stride": info.stride,
        "pixel_mean": info.mean,
        "pixel_std": info.std,
        "resize": info.resize,
        "orientation": args.orientation,
        "precision": precision.name,
        "normalize": True,
        "dataset": None,
    }


def _print(query: FeatureSet, images: FeatureSet, rankings: Sequence[Ranking]) -> None:
    """Rank, cosine similarity and path of each image."""
    for ranking in rankings:
        say("%s", query.names.text(query.keys[ranking.query]))
        for rank, image in enumerate(ranking.images, start=1):
            say("%4d  %6.3f  %s", rank, SIMILARITY.of(image.distance), images.paths[image.row])


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or file."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("sentences", nargs="+", metavar="SENTENCE", help="a description of what to find, in quotes")
    add("--weight", required=True, metavar="FILE", help="text search model: our own, published, or CLIP's")
    add(
        "--images",
        required=True,
        metavar="WHAT",
        help="folder, .txt file with a path a line, pattern in quotes ('crops/**/*.jpg'), or image",
    )
    add("--out", default="logs/search", metavar="DIR", help="folder to write to (default: %(default)s)")
    add(
        "--features",
        type=Path,
        metavar="FILE",
        help="where the features of the images are kept (default: images.npz in --out)",
    )
    add("--top", type=one_or_more, default=10, metavar="K", help="images per sentence (default: %(default)s)")
    add("--model", metavar="NAME", help="MODEL.NAME (default: from model card, file name or shapes)")
    add(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="image size in pixels (default: the model card's, else from shapes)",
    )
    add_image_options(parser)
    args = parser.parse_args(argv)
    setup_logger(None, "")
    with end_in_one_line():
        search(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
