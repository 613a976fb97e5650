"""The programs as users call them: processes of their own, on drawn people, without a GPU."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch

from datasets.drawn import FOLDER, draw_market1501
from tests.processes import ENVIRONMENT, ROOT, run_program
from tests.toys import words

pytestmark = pytest.mark.slow

# A small tower with random weights on small images: the programs are on trial here, not the method.
SMALL = {
    "MODEL.NAME": "ViT-S-32",
    "MODEL.PRETRAIN_CHOICE": "none",
    "MODEL.STRIDE_SIZE": "[32, 32]",
    "INPUT.SIZE_TRAIN": "[64, 32]",
    "INPUT.SIZE_TEST": "[64, 32]",
    "DATALOADER.NUM_WORKERS": "0",
}
PROGRAMS = {"train.py": "test.py", "train_clipreid.py": "test_clipreid.py"}
CONFIG = {
    "train": "configs/person/vit_base.yml",
    "clipreid": "configs/person/vit_clipreid.yml",
    "pcl": "configs/pcl/vit_pcl.yml",
}
RESULTS = re.compile(
    r"transreid INFO: Validation Results (?:- Epoch: \d+)?\n"
    r".*transreid INFO: mAP: (\d+\.\d)%\n"
    r".*transreid INFO: CMC curve, Rank-1  :(\d+\.\d)%\n"
    r".*transreid INFO: CMC curve, Rank-5  :(\d+\.\d)%\n"
    r".*transreid INFO: CMC curve, Rank-10 :(\d+\.\d)%\n"
)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """ROOT_DIR of drawn people: four for training, three for tests, two cameras."""
    root = tmp_path_factory.mktemp("people")
    draw_market1501(
        root, train_ids=4, test_ids=3, images_per_camera=2, cameras=2, distractors=1, size=(64, 32)
    )
    return root


@pytest.fixture(scope="module")
def run(people, tmp_path_factory):
    """run('train.py', KEY, VALUE, …) -> the finished process; no GPU is visible, the home folder is empty."""
    home = str(tmp_path_factory.mktemp("home"))

    def start(program, *pairs, config=None, fresh=False):
        config = config or CONFIG[next((name for name in CONFIG if f"_{name}." in program), "train")]
        settings = SMALL | {"DATASETS.ROOT_DIR": str(people)}
        settings |= dict(zip(pairs[::2], pairs[1::2], strict=True))
        command = [program, "--config_file", config, *words(settings)]
        if not fresh:
            return run_program(command, HOME=home)
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=os.environ | ENVIRONMENT | {"HOME": home},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return start


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    """trained('train.py') -> (process, output folder) of two epochs of two batches."""
    done = {}

    def train(program):
        if program not in done:
            folder = tmp_path_factory.mktemp("logs") / program.removesuffix(".py") / "new"
            main = "SOLVER.STAGE2." if "clipreid" in program else "SOLVER."
            pairs = ["OUTPUT_DIR", str(folder), f"{main}IMS_PER_BATCH", "8", f"{main}MAX_EPOCHS", "2"]
            if "clipreid" in program:
                pairs += ["SOLVER.STAGE1.IMS_PER_BATCH", "10", "SOLVER.STAGE1.MAX_EPOCHS", "2"]
            done[program] = run(program, *pairs, fresh=True), folder
        return done[program]

    return train


def same_lines(shown, log):
    """The terminal has the settings later than the file: when data and weights are found."""
    return sorted(shown.splitlines()) == sorted(log.read_text().splitlines())


@pytest.mark.parametrize("program", PROGRAMS)
def test_training(trained, program):
    process, folder = trained(program)
    assert (process.returncode, process.stderr) == (0, "")
    files = {"train_log.txt", "config.yml", "metrics.jsonl", "receipt.json", "last.pt"}
    files |= {"ViT-S-32_2.pth", "ViT-S-32_2.json"}
    if program == "train_clipreid.py":
        files |= {"ViT-S-32_stage1_2.pth", "ViT-S-32_stage1_2.json"}
        files |= {"ViT-S-32_stage1_2.settings.json", "ViT-S-32_2.settings.json"}
    assert {path.name for path in folder.iterdir()} == files
    assert same_lines(process.stdout, folder / "train_log.txt")
    assert "\r" not in process.stdout and "it/s" not in process.stdout and "%|" not in process.stdout
    stages = (
        ["stage1", "stage1", "stage2", "stage2"]
        if program == "train_clipreid.py"
        else ["baseline", "baseline"]
    )
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["stage"] for record in records] == stages and 0 <= records[-1]["mAP"] <= 1
    assert process.stdout.count("] Iteration[") == len(stages)
    (shown,) = RESULTS.findall(process.stdout)
    assert float(shown[0]) == pytest.approx(100 * records[-1]["mAP"], abs=0.051)


@pytest.mark.parametrize("trainer", PROGRAMS)
@pytest.mark.parametrize("tester", PROGRAMS.values())
def test_testing_without_training_split(run, trained, people, tmp_path, trainer, tester):
    """Either test program gives the last validation's numbers from either file and the test images."""
    process, folder = trained(trainer)
    for name in ("query", "bounding_box_test"):
        shutil.copytree(people / FOLDER / name, tmp_path / FOLDER / name)
    weight = ("TEST.WEIGHT", str(folder / "ViT-S-32_2.pth"), "OUTPUT_DIR", str(tmp_path / "logs"))
    tested = run(tester, "DATASETS.ROOT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", "1", *weight)
    assert (tested.returncode, tested.stderr) == (0, "")
    assert RESULTS.findall(tested.stdout) == RESULTS.findall(process.stdout)
    assert len(RESULTS.findall(tested.stdout)) == 1 and "Validation Results \n" in tested.stdout
    assert same_lines(tested.stdout, tmp_path / "logs" / "test_log.txt") and "\r" not in tested.stdout


def test_another_data_set_than_the_one_trained_on(run, trained, people, tmp_path):
    """Nothing but DATASETS.NAMES says so: other people, other cameras, other folders."""
    draw_market1501(
        tmp_path,
        train_ids=1,
        test_ids=3,
        images_per_camera=2,
        cameras=3,
        distractors=0,
        size=(64, 32),
        seed=5,
    )
    (tmp_path / "dukemtmcreid").mkdir()
    (tmp_path / FOLDER).rename(tmp_path / "dukemtmcreid" / "DukeMTMC-reID")
    (tmp_path / FOLDER).symlink_to(people / FOLDER)
    weight = str(trained("train_clipreid.py")[1] / "ViT-S-32_2.pth")
    pairs = ("DATASETS.ROOT_DIR", str(tmp_path), "TEST.WEIGHT", weight)
    shown = []
    for name in ("market1501", "dukemtmc"):
        out = ("OUTPUT_DIR", str(tmp_path / name))
        tested = run("test_clipreid.py", *pairs, *out, "DATASETS.NAMES", name)
        assert (tested.returncode, tested.stderr) == (0, "")
        shown += RESULTS.findall(tested.stdout)
        assert json.loads((tmp_path / name / "metrics.json").read_text())["dataset"] == name
    assert len(shown) == 2 and shown[0] == RESULTS.findall(trained("train_clipreid.py")[0].stdout)[0]


def test_published_command_line(run, tmp_path):
    """SIE and overlapping patches as published, then a test with the plain configuration."""
    pairs = ("MODEL.SIE_CAMERA", "True", "MODEL.SIE_COE", "1.0", "MODEL.STRIDE_SIZE", "[12, 12]")
    solver = ("SOLVER.IMS_PER_BATCH", "8", "SOLVER.MAX_EPOCHS", "1")
    process = run(
        "train.py", *pairs, *solver, "DATASETS.NAMES", "('market1501')", "OUTPUT_DIR", str(tmp_path)
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert torch.load(tmp_path / "ViT-S-32_1.pth", weights_only=True)["cv_embed"].shape == (2, 384)
    tested = run("test_clipreid.py", "TEST.WEIGHT", str(tmp_path / "ViT-S-32_1.pth"), "OUTPUT_DIR", "")
    assert (tested.returncode, tested.stderr) == (0, "")
    assert "stride (12, 12) adopted from the file instead of (32, 32)" in tested.stdout
    assert "SIE by camera (2 rows)" in tested.stdout
    assert RESULTS.findall(tested.stdout) == RESULTS.findall(process.stdout)


# ---- PCL-CLIP

TOY_PCL = ("SOLVER.IMS_PER_BATCH", "8", "DATALOADER.NUM_INSTANCE", "2", "SOLVER.MAX_EPOCHS", "2")
TOY_PCL += ("SOLVER.ITERS", "3", "SOLVER.LOG_PERIOD", "3")
PCL_LINE = r"Epoch\[\d\] Iteration\[3/3\] Loss: \d+\.\d{3}, Base Lr: \d\.\d{2}e-\d\d"


def test_pcl_by_its_published_command_line_and_every_test_program(run, tmp_path):
    out = ("OUTPUT_DIR", str(tmp_path))
    process = run("train_pcl.py", *TOY_PCL, "DATASETS.NAMES", "('market1501')", *out, fresh=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert len(re.findall(PCL_LINE, process.stdout)) == 2
    assert process.stdout.count("Memory has 4 classes.") == 2
    assert "Create memory bank with shape = torch.Size([4, 768])" in process.stdout
    assert "Base Lr: 3.50e-05" in process.stdout and "Base Lr: 6.65e-05" in process.stdout
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(record["stage"], record["samples"]) for record in records] == [("pcl", 24)] * 2
    assert records[0]["loss"] == pytest.approx(records[0]["loss_pcl"] + records[0]["loss_id"])
    weight = ("TEST.WEIGHT", str(tmp_path / "ViT-S-32_2.pth"), "OUTPUT_DIR", "")
    weights = torch.load(weight[1], weights_only=True)
    assert weights["classifier.weight"].shape == (4, 768) and "classifier_proj.weight" not in weights
    tests = {
        "test_pcl.py": {},
        "test.py": {"config": CONFIG["pcl"]},
        "test_clipreid.py": {"pairs": ("TEST.NECK_FEAT", "after", "INPUT.TEST_RESIZE", "bicubic")},
    }
    for program, options in tests.items():
        tested = run(program, *weight, *options.get("pairs", ()), config=options.get("config"))
        assert (tested.returncode, tested.stderr) == (0, "")
        assert RESULTS.findall(tested.stdout) == RESULTS.findall(process.stdout)
        assert len(RESULTS.findall(tested.stdout)) == 1 and "WARNING" not in tested.stdout


def test_pcl_without_identities(run, tmp_path):
    clusters = ("CLUSTER.K1", "2", "CLUSTER.K2", "1", "CLUSTER.MIN_SAMPLES", "1", "CLUSTER.EPS", "0.3")
    process = run(
        "train_pcl.py", *TOY_PCL, *clusters, "OUTPUT_DIR", str(tmp_path), config="configs/pcl/vit_pcl_usl.yml"
    )
    assert (process.returncode, process.stderr) == (0, "")
    line = (
        r"Epoch 2: \d+ clusters, 0 outliers of 16 images; agreement with the identities: NMI 0\.\d{3}, ARI "
    )
    assert re.search(line, process.stdout) and len(re.findall(PCL_LINE, process.stdout)) == 2
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(record["clusters"] >= 4 and 0 < record["nmi"] <= 1 for record in records)
    weight = tmp_path / "ViT-S-32_2.pth"
    assert not any("classifier" in name for name in torch.load(weight, weights_only=True))
    tested = run("test_pcl.py", "TEST.WEIGHT", str(weight), "OUTPUT_DIR", "")
    assert RESULTS.findall(tested.stdout) == RESULTS.findall(process.stdout)


def test_an_error_is_one_line(run):
    """The table of errors is in program_errors."""
    process = run("train_clipreid.py", "SOLVER.STAGE2.MAX_EPOCH", "3", fresh=True)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("error: ") and process.stderr.count("\n") == 1
    assert all(key in process.stderr for key in ("SOLVER.STAGE2.MAX_EPOCH;", "SOLVER.STAGE2.MAX_EPOCHS"))
