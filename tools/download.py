"""Fetch a public data set, or published weights, where they can be had without a form.

python tools/download.py market1501 --root data
python tools/download.py market1501 --root data --dvc mine
python tools/download.py weights clipreid/market1501/vit_clipreid --root weights

What is there is not fetched again. A download that breaks off goes on the next time.
"""

import dataclasses
import difflib
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, say
from tools.downloading import WEIGHTS, check_json, check_weights
from utils.data_sources import DATA_SOURCES
from utils.download import Fetch, Source, download_source, fetch_by_gdown, pull_by_dvc
from utils.logger import setup_logger
from utils.package import MissingExtra
from utils.text import quoted

_logger = logging.getLogger("transreid.download")
_WEIGHTS = "weights"
_CHECKS = {".pth": check_weights, ".json": check_json}
SOURCES: dict[str, Source] = {
    **DATA_SOURCES,
    # What reid-task, a CLIP-ReID with captions, has published: its files, and the RN50 of CLIP-ReID's table.
    "reid_task_files": Source(
        "reid_task_files", drive_id="1Yb5bl01yUKtI7v4F1Q3AiNSL68rtqHry", size=10_162_619
    ),
    "reid_task_rn50": Source(
        "Market1501_clipreid_RN50_120.pth", drive_id="1sBqCr5LxKcO9J2V0IvLQPb0wzwVzIZUp", is_file=True
    ),
}


def download(name: str, root: str | Path, fetch: Fetch | None = None, *, dvc: str | None = None) -> Path:
    """The folder or file of `name`, of SOURCES or of the published weights, below `root`; fetched if missing.

    `fetch(url, path)` writes what is at an address to a path, in place of gdown; known size and checksum are
    those of gdown's file and then not compared. `dvc` is a remote of DVC that is asked first, '' for its
    default one; then `fetch`. Raises ValueError for an unknown name and for what is no such archive or file,
    OSError when it cannot be fetched; each is one line with what to do by hand, and nothing is left behind.
    """
    source, root = _find(name, {**SOURCES, **WEIGHTS}), Path(root).expanduser()
    if fetch is not None:
        source = dataclasses.replace(source, md5="", size=0)
    if dvc is not None and source.find(root) is None:
        try:
            pull_by_dvc([f"{name}.dvc", f"{source.target}.dvc"], root, dvc)
            if source.find(root) is None:
                raise OSError(f"dvc pull ended, but there is no {root / source.target}")
        except (OSError, MissingExtra) as error:
            _logger.warning("%s", error)
    check = _CHECKS.get(Path(source.target).suffix, lambda path: None) if source.is_file else _accept
    return download_source(name, source, root, fetch or fetch_by_gdown, check)


def _accept(path: Path) -> None:
    """A folder was looked at when it was unpacked."""


def _find(name: str, sources: Mapping[str, Source]) -> Source:
    if name not in sources:
        known = {each.casefold(): each for each in sources}
        known |= {each: f"weights {each}" for each in WEIGHTS if each not in sources}
        close = [known[each] for each in difflib.get_close_matches(name.casefold(), known, n=3, cutoff=0.4)]
        hint = f", did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"{quoted(name)} is unknown{hint}; `--help` has all names")
    return sources[name]


def _epilog() -> str:
    fetched = [name for name, source in SOURCES.items() if not source.terms]
    by_hand = [name for name, source in SOURCES.items() if source.terms]
    named = ["", "not fetched, but told where to get it:", *by_hand, "", "weights:", *WEIGHTS]
    lines = ["fetched:", *fetched, *named]
    return "\n".join(line if not line or line.endswith(":") else f"  {line}" for line in lines)


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr where something is not fetched."""
    parser = Parser(description=__doc__, epilog=_epilog(), allow_abbrev=False)
    add = parser.add_argument
    add("name", help="data set or file, or the word weights")
    add("weights", nargs="?", metavar="WEIGHTS", help="after the word weights: name of published ones")
    add("--root", type=Path, metavar="DIR", help="folder to put it in (default: data; of weights: weights)")
    remote = "for a data set: first try DVC, from this remote or its default one, for NAME.dvc in DIR"
    add("--dvc", nargs="?", const="", metavar="REMOTE", help=remote)
    args = parser.parse_args(argv)
    is_weights = args.name == _WEIGHTS
    if is_weights != (args.weights is not None):
        parser.error(f"{args.name} {args.weights or ''}: allowed: NAME, or weights NAME")
    if is_weights and args.dvc is not None:
        parser.error("--dvc is for data sets")
    setup_logger(None, "")
    with end_in_one_line():
        name = args.weights if is_weights else args.name
        _find(name, WEIGHTS if is_weights else SOURCES)
        say("%s", download(name, args.root or Path(_WEIGHTS if is_weights else "data"), dvc=args.dvc))
    return 0


if __name__ == "__main__":
    sys.exit(main())
