"""Fill a gallery with drawn people, ask it three questions, and show its page.

python tools/gallery_demo.py

Nothing is downloaded. People who were never seen in training pass four cameras on five days; the models are
those of tools/demo.py, the one of CLIP-ReID is trained where it is missing. The questions are another picture
of somebody in the gallery, a picture of a stranger and, after tools/demo.py --text, a sentence.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, say
from test_clipreid import main as test_clipreid
from tools import demo
from tools.gallery import main as gallery
from tools.serve import listening, port_number
from tools.serve import main as serve
from tools.threshold import main as threshold
from utils.files import make_output_dir
from utils.lock import locked
from utils.package import require_extra

if TYPE_CHECKING:
    from datasets.drawn import DrawnDays

SEED = 6
RATE = "0.001"  # of pairs of different people who are taken for one
SHOWN = "6"  # pictures of an answer


class _Models(NamedTuple):
    """Files of models; `text` is None where there is none."""

    reid: Path
    text: Path | None

    def options(self) -> list[str]:
        """The options of the programs of a gallery that name these models."""
        text = [] if self.text is None else ["--text-weight", str(self.text)]
        return ["--weight", str(self.reid), *text]


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with the status of the program that failed."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--out", type=Path, metavar="DIR", help="folder for people and gallery (default: DEMO/gallery)")
    add("--demo", type=Path, default=Path("logs/demo"), help="folder of tools/demo.py (default: logs/demo)")
    add("--port", type=port_number, default=8000, help="of the page (default: 8000)")
    add("--no-serve", action="store_true", help="end after the three questions")
    args = parser.parse_args(argv)
    with end_in_one_line():
        for extra in ("draw", "plots", "index", *([] if args.no_serve else ["serve", "web"])):
            require_extra(extra)
        from datasets.drawn import draw_days

        if not args.no_serve:
            with listening("127.0.0.1", args.port):  # that it is taken is said before minutes of training
                pass
        home = args.demo
        out = args.out or home / "gallery"
        with locked(make_output_dir(out) / ".demo.lock"):
            models = find_models(home)
            limit = find_threshold(models.reid, home / "data", out)
            say("Drawing people of five days in %s …", out)
            days = draw_days(out, seed=SEED, overwrite=True)
            address = days.folder / "gallery.db"
            fill(address, days, models)
            ask(address, days, models, limit)
            if not args.no_serve:
                words = [*models.options(), *limit, "--port", str(args.port)]
                _run(serve, "tools/serve.py", ["--gallery", str(address), *words])
    return 0


def find_models(home: Path) -> _Models:
    """The models of the demo in a folder, CLIP-ReID trained if it is not there."""
    if _newest(home / "run") is None:
        _run(demo.main, "tools/demo.py", ["--out", str(home)])
    reid = _newest(home / "run")
    if reid is None:
        raise FileNotFoundError(f"{home / 'run'} has no trained model after the training")
    return _Models(reid, _newest(home / "text/run"))


def _newest(folder: Path) -> Path | None:
    """The newest weights of a run that went to its end; those of stage 1 find nobody."""
    files = [path for path in folder.glob("*.pth") if "stage1" not in path.name]
    return max(files, key=os.path.getmtime, default=None)


def find_threshold(weight: Path, data: Path, out: Path) -> list[str]:
    """Test the model on the demo's people to find a threshold; the options that name it."""
    from datasets.drawn import draw_market1501

    if not data.is_dir():
        draw_market1501(data, seed=demo.SEED)
    settings = ["TEST.WEIGHT", str(weight), "DATASETS.ROOT_DIR", str(data), "OUTPUT_DIR", str(out / "test")]
    _run(test_clipreid, "test_clipreid.py", ["--config_file", demo.CONFIG, *settings])
    features = str(out / "test/features.npz")
    _run(threshold, "tools/threshold.py", ["--features", features, "--out", str(out / "threshold")])
    return ["--threshold", str(out / "threshold/threshold.json"), "--far", RATE]


def fill(address: Path, days: DrawnDays, models: _Models) -> None:
    """Make the gallery, and add all that the cameras took."""
    _run(gallery, "tools/gallery.py", ["create", str(address), *models.options()])
    _run(gallery, "tools/gallery.py", ["add", str(address), str(days.table), *models.options()])


def ask(address: Path, days: DrawnDays, models: _Models, limit: Sequence[str]) -> None:
    """The three questions."""
    words = ["search", str(address), "--top", SHOWN]
    reid = ["--weight", str(models.reid), *limit]
    say("\nWho is this? It is another picture of %s:", days.name)
    _run(gallery, "tools/gallery.py", [*words, "--image", str(days.known), *reid])
    say("\nAnd who is this? It is somebody who never came by:")
    _run(gallery, "tools/gallery.py", [*words, "--image", str(days.stranger), *reid])
    if models.text is None:
        say("\nSentences are understood after: make demo-text")
        return
    say("\nAnd who looks like this? It was said of %s:", days.described)
    _run(gallery, "tools/gallery.py", [*words, days.sentence, "--text-weight", str(models.text)])


def _run(program: Callable[..., int], file: str, words: Sequence[str]) -> None:
    say("\n$ python %s %s\n", file, shlex.join(words))
    program(argv=list(words))


if __name__ == "__main__":
    sys.exit(main())
