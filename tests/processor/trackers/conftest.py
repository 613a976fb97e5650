"""Trackers of MLflow in a file."""

import pytest
from mlflow import MlflowClient

from processor.trackers import Experiment, Mlflow
from tests.processor.trackers.servers import runs_at


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """The address of a database; making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    MlflowClient(uri).search_experiments()
    return uri


@pytest.fixture
def make(database, tmp_path):
    """make() -> a tracker of the run `mine` in an experiment of the test's own; with state it goes on."""
    (tmp_path / "config.yml").write_text("A: 1\n")

    def start(state=None, config=None, uri=database, **options):
        tracker = Mlflow(Experiment(tmp_path, tmp_path.name, "mine", uri, **options))
        tracker.start({"A.B": "x", "C": ""} if config is None else config, {"torch": "2"})
        if state is not None:
            tracker.rewind(state)
        return tracker

    return start


@pytest.fixture
def found(database, tmp_path):
    """found() -> the runs by name."""
    return lambda: runs_at(database, tmp_path.name)
