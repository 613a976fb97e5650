"""The keys of trackers of experiments, under LOG."""

from pathlib import Path

from config.keys import ZERO_OR_MORE, Key, Rule

_FOLDER_NAME = Rule(
    "the name of a folder, e.g. 'market', or ''",
    lambda name: Path(name).name == name and name not in (".", "..") and name.isprintable(),
)
_TRACKED = ("TRACKER", Rule("other than 'none'", lambda names: names != "none"))

LOG = {
    "TRACKER": Key(
        "none",
        "Trackers of experiments that show the run besides `metrics.jsonl`: 'none' or 'tensorboard'; several "
        "with commas between them. One that fails is a warning and never ends a run.",
    ),
    "EXPERIMENT": Key(
        "",
        "Name of a group of runs. '': the method's, e.g. 'clipreid'. TensorBoard: a folder in OUTPUT_DIR.",
        _FOLDER_NAME,
        needs=_TRACKED,
    ),
    "RUN": Key(
        "",
        "Name of the run, whose stages are shown as '{RUN}_{stage}'. '': the name of OUTPUT_DIR's folder.",
        _FOLDER_NAME,
        needs=_TRACKED,
    ),
    "PICTURES_EVERY": Key(
        0,
        "Epochs, at least, from a picture of rankings to the next one; pictures are made in evaluations. 0: "
        "none.",
        ZERO_OR_MORE,
        needs=_TRACKED,
    ),
}
