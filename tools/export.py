"""Write a model as a file for other programs, ONNX or a program of torch.export, compared with the model.

python tools/export.py --weight logs/run/ViT-B-16_60.pth --out reid.onnx

The file goes from images (batch, 3, H, W), RGB of 0 to 1, to features (batch, D) of L2 norm 1. It is run on
batches of 1, 3 and 16 and is not kept where its features are not the model's.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, say
from config.errors import as_keys
from tools.exporting.clients import CLIENTS, Client, write_beside
from tools.exporting.writing import MAP_DROP, Exported, Settings, export_texts
from tools.features.weights import add_weight_options, load_reid, load_text_search
from utils.export_forms import OPSET, PIXELS
from utils.files import require_writable
from utils.logger import setup_logger

_OPTIONS = {"path": "--out", "map_drop": "--map-drop", "cosine_only": "--cosine-only"}
_OPTIONS |= {name: f"--{name}" for name in ("form", "pixels", "raw", "cameras", "opset", "data")} | {
    "sides": "--cameras"
}
_PIXELS = {
    "unit": "RGB of 0 to 1",
    "normalised": "RGB with the model's mean and std",
    "imagenet": "RGB with ImageNet's mean and std",
}


def export(args: argparse.Namespace) -> list[Exported]:
    """Write the files that the options ask for, each whole or not at all, and print their facts.

    Raises ValueError or OSError for options and files that cannot be used, and for a file that does not give
    the model's features.
    """
    from model import is_text_search_file
    from tools.exporting.ranking import read_split

    text_search = is_text_search_file(args.weight)
    if args.text and not text_search:
        raise ValueError(f"--text is given; allowed: with a text search model, not {args.weight}")
    if args.text == args.out:
        raise ValueError(f"--text is {args.text}; allowed: another file than --out")
    client = CLIENTS[args.client]
    if args.text and not client.texts:
        raise ValueError(f"--text is given; allowed for {args.client}: without it")
    settings = Settings(
        form=args.form,
        pixels=args.pixels or "",
        raw=args.raw,
        cameras=args.cameras,
        opset=args.opset,
        map_drop=args.map_drop,
        cosine_only=args.cosine_only,
        data=read_split(args.data, text_search=text_search) if args.data else None,
    )
    with as_keys(_OPTIONS):
        settings = client.settings(args.client, settings)
        for path in filter(None, (args.out, args.text)):
            client.check(client.place(path), settings)
            require_writable(_make_place(client, path), "--out" if path == args.out else "--text")
    try:
        written = _write(args, client, settings, text_search=text_search)
    finally:
        for path in filter(None, (args.out, args.text)):
            _remove_empty(client, path)
    for file in written:
        _print(file)
        for path in write_beside(client, file):
            say("  beside it: %s", path)
        if client.hint:
            say("  %s", client.hint.format(path=file.path))
    return written


def _write(
    args: argparse.Namespace, client: Client, settings: Settings, *, text_search: bool
) -> list[Exported]:
    if text_search:
        model, info = load_text_search(args)
    else:
        model, info = load_reid(args, None if args.cameras else (1, 0))
    with as_keys(_OPTIONS):
        written = [client.write(model, info, client.place(args.out), settings)]
        if args.text:
            written.append(export_texts(model, info, client.place(args.text), settings))
    return written


def _remove_empty(client: Client, path: Path) -> None:
    """Remove the folders of a model that was not written."""
    place = client.place(path)
    if place != path:
        with contextlib.suppress(OSError):  # it is not empty
            place.parent.rmdir()
            path.rmdir()


def _make_place(client: Client, path: Path) -> Path:
    place = client.place(path)
    if place != path:  # folders of the client's own
        place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _print(file: Exported) -> None:
    settings = file.settings
    say("%s: %s, %.1f MB", file.path, settings.form, file.path.stat().st_size / 1e6)
    what = {"images": f"float32, {_PIXELS[settings.pixels]}", "tokens": "int64, of CLIP's tokenizer"}
    for name, shape in file.inputs.items():
        form = ", ".join(map(str, ("batch", *shape)))
        say("  input   %s (%s) %s", name, form, what.get(name, "int64, -1 is unknown"))
    say(
        "  output  features (batch, %d) float32, %s",
        file.width,
        "as trained" if settings.raw else "L2 norm 1",
    )
    say("  least cosine with the model's features %.6f, largest difference %.1e", *file.parity)
    if file.maps:
        by_model, by_file = (100 * each for each in file.maps)
        say("  mAP on %s: %.2f by the model, %.2f by the file", settings.data.name, by_model, by_file)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--weight", required=True, metavar="FILE", help="checkpoint of any of the programs, or published")
    add("--out", required=True, type=Path, metavar="FILE", help="file to write: .onnx, or .pt2 for a program")
    add("--text", type=Path, metavar="FILE", help="second file, for the text side of a text search model")
    of_form = {"dest": "form", "action": "store_const", "default": ""}
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--fp16", const="fp16", **of_form, help="weights in float16, half the size")
    forms.add_argument(
        "--int8", const="int8", **of_form, help="linear layers in 8 bits; needs --data or --cosine-only"
    )
    forms.add_argument(
        "--program",
        const="program",
        **of_form,
        help="a program of torch.export (default where --out ends with .pt2)",
    )
    pixels = parser.add_mutually_exclusive_group()
    pixels.add_argument(
        "--pixels",
        choices=PIXELS,
        help="what the client does to RGB: 0 to 1 (default), the model's mean and std, ImageNet's",
    )
    pixels.add_argument(
        "--no-preprocessing",
        dest="pixels",
        action="store_const",
        const="normalised",
        default=argparse.SUPPRESS,
        help="the same as --pixels normalised",
    )
    add(
        "--for",
        dest="client",
        choices=[name for name in CLIENTS if name],
        default="",
        help="write what this program takes, with its own files beside (docs/clients.md)",
    )
    add("--raw", action="store_true", help="features as trained, without L2 normalisation")
    add("--cameras", action="store_true", help="cameras and views are inputs, for a model with SIE")
    add("--opset", type=int, metavar="N", help=f"version of ONNX's operators (default: {OPSET})")
    add(
        "--data",
        metavar="NAME[=ROOT_DIR]",
        help="data set on whose test split the file's mAP is compared with the model's",
    )
    add(
        "--map-drop",
        type=float,
        metavar="X",
        help=f"with --data: points of mAP that the file may lose (default: {MAP_DROP})",
    )
    add("--cosine-only", action="store_true", help="with --int8: no data set, random images must do")
    add_weight_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or file."""
    args = _parse(argv)
    setup_logger(None, "")
    with end_in_one_line():
        export(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
