"""The keys of trackers of experiments, under LOG."""

from pathlib import Path

from config.keys import ZERO_OR_MORE, Key, Rule

_FOLDER_NAME = Rule(
    "the name of a folder, e.g. 'market', or ''",
    lambda name: Path(name).name == name and name not in (".", "..") and name.isprintable(),
)
_TRACKED = ("TRACKER", Rule("other than 'none'", lambda names: names != "none"))
_SERVED = ("TRACKER", Rule("with 'mlflow' in it", lambda names: "mlflow" in names))

LOG = {
    "TRACKER": Key(
        "none",
        "Trackers of experiments that show the run besides `metrics.jsonl`: 'none', 'tensorboard' or "
        "'mlflow'; several with commas between them. One that fails is a warning and never ends a run.",
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
    "URI": Key(
        "",
        "MLflow: address of its server, http://host:port, or its file, sqlite:///path/to/mlflow.db. '': "
        "`mlflow.db` in OUTPUT_DIR. A password belongs in the environment.",
        needs=_SERVED,
    ),
    "CHECKPOINTS": Key(
        False,
        "MLflow: send checkpoints as well, not only their cards. Training waits for it.",
        needs=_SERVED,
    ),
    "PICTURES_EVERY": Key(
        0,
        "Epochs, at least, from a picture of rankings to the next one; pictures are made in evaluations. 0: "
        "none.",
        ZERO_OR_MORE,
        needs=_TRACKED,
    ),
}
