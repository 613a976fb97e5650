"""A real MLflow server on 127.0.0.1, which can be killed and started again, and what a client reads there."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

from mlflow import MlflowClient

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes
    "OMP_NUM_THREADS": "1",
}


class Server:
    """Keeps its runs and artefacts in a folder, and its port over a restart."""

    def __init__(self, folder):
        self.folder, self.process = folder, None
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.uri = f"http://127.0.0.1:{found.getsockname()[1]}"

    def start(self):
        """Wait until it answers; nothing where it runs already."""
        if self.process is not None:
            return
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
        command += ["--port", self.uri.rpartition(":")[2], "--artifacts-destination", f"{self.folder}/files"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | QUIET,
                start_new_session=True,
            )
        for _ in range(600):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError((self.folder / "log").read_text())

    def kill(self):
        """As a machine that loses power; its own processes end with it."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def runs_at(uri, experiment):
    """The runs of an experiment by name, of which no two are alike."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id]) if found else []
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {run.info.run_name: run for run in runs}


def history(uri, run, name):
    """Pairs of step and value of a metric, in the order of steps."""
    found = MlflowClient(uri).get_metric_history(run.info.run_id, name)
    return sorted((each.step, each.value) for each in found)


def files_of(uri, run, folder=None):
    """The paths of artefacts in a folder."""
    return sorted(each.path for each in MlflowClient(uri).list_artifacts(run.info.run_id, folder))


def epoch(number, stage="stage2", **values):
    return {"stage": stage, "epoch": number, "lr": 0.1, "loss": 1.0 / number, **values, "time": time.time()}


def step(number, **values):
    place = {"stage": "stage2", "epoch": 1, "iteration": 1, "step": number}
    return {**place, "loss": float(number), **values, "time": time.time()}
