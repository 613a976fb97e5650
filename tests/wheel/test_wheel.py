"""The wheel, installed next to packages that have the names of its folders, and used from another folder."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import BytesParser

import pytest

from tests.docs.reading import BLOCKS, ROOT, VISION, save_people
from tests.toys import write_tower

pytestmark = pytest.mark.slow

# The heavy packages come from the environment of the tests, but for those of the extras.
BORROWED = f"""\
import sys; sys.modules.update(dict.fromkeys(["matplotlib", "mlflow", "skimage", "sklearn"]))
{sysconfig.get_path("purelib")}
"""
IMPORT_ALL = """
import importlib, pathlib, sys
import clipreid, datasets, utils
root = pathlib.Path(clipreid.__file__).parent
for path in root.rglob("*.py"):
    place = path.relative_to(root.parent).with_suffix("")
    if place.name != "pictures":  # of the extra [plots]
        importlib.import_module(".".join(place.parts).removesuffix(".__init__"))
assert datasets.foreign and utils.foreign
assert not {"config", "model", "loss", "processor", "retrieval", "solver", "tools"} & sys.modules.keys()
"""


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory):
    """The programs of an environment with the wheel, and with foreign packages `datasets` and `utils`."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = folder.glob("clipreid-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"clipreid", "-".join(wheel.name.split("-")[:2]) + ".dist-info"}
    told = next(name for name in names if name.endswith("/METADATA"))
    extras = BytesParser().parsebytes(zipfile.ZipFile(wheel).read(told))
    assert "mlflow" in extras.get_all("Provides-Extra")
    everything = [line for line in extras.get_all("Requires-Dist") if line.endswith("extra == 'all'")]
    assert any("onnx" in line for line in everything) and not any("mlflow" in line for line in everything)
    venv.create(folder / "env", with_pip=False)
    python = folder / "env/bin/python"
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], check=True)
    (packages,) = (folder / "env/lib").glob("python*/site-packages")
    (packages / "borrowed.pth").write_text(BORROWED)
    for name in ("datasets", "utils"):
        (packages / f"{name}.py").write_text("foreign = True\n")
    return python.parent


@pytest.fixture(scope="module")
def run(bin_folder, tmp_path_factory):
    """run(program, *words) runs a program in a folder with the README's images and a tiny ViT-B-16.json."""
    folder = tmp_path_factory.mktemp("elsewhere")
    save_people(folder)
    write_tower(folder / "ViT-B-16.json", vision_cfg=VISION)

    def run_program(program, *words, status=0):
        environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
        command = [str(bin_folder / program), *words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        return done

    run_program.folder = folder
    return run_program


def test_programs_and_readme_with_the_base_dependencies(run):
    config = ("--config_file", "person/vit_clipreid.yml", "MODEL.NAME", "ViT-B-16.json")
    data = ("DATASETS.NAMES", "folder", "DATASETS.ROOT_DIR", "my_people", "OUTPUT_DIR", "logs/my_people")
    shorter = ("SOLVER.STAGE1.MAX_EPOCHS", "1", "SOLVER.STAGE2.IMS_PER_BATCH", "8")
    quick = ("DATALOADER.NUM_WORKERS", "0", "MODEL.PRETRAIN_CHOICE", "none")
    run("clipreid-train", *config, *data, *shorter, *quick)
    weights = "logs/my_people/ViT-B-16_60.pth"
    features = ("--images", "my_people/query", "--out", "query.npz", "--workers", "0")
    run("clipreid-extract", "--weight", weights, *features)
    examples = [b.text for b in BLOCKS if b.text.startswith(("import clipreid", "from clipreid "))]
    words = [*config, *data, *quick, "TEST.WEIGHT", weights]
    test = f"clipreid.test_clipreid.main(argv={words})"
    script = "\n".join([IMPORT_ALL, test, *examples, "print(len(clipreid.FeatureSet.load('query.npz')))"])
    assert run("python", "-c", script).stdout.endswith("\n2\n")
    assert {path.name for path in run.folder.iterdir()} == {"my_people", "logs", "query.npz", "ViT-B-16.json"}


def test_programs_of_text_search_find_their_settings(run):
    error = run("clipreid-train-tbps", "--simplified", "OUTPUT_DIR", "", status=2).stderr
    assert error.startswith("error: OUTPUT_DIR is empty") and error.count("\n") == 1
    error = run("clipreid-test-tbps", "--simplified", "INPUT.SIZE_TEST", "3", status=2).stderr
    assert error.startswith("error: command line: INPUT.SIZE_TEST is 3") and error.count("\n") == 1


def test_the_zero_shot_program_finds_its_settings(run):
    error = run("clipreid-zero-shot", "--mm", status=2).stderr
    assert error.startswith("error: --mm without --attributes") and error.count("\n") == 1


def test_an_exported_model_needs_no_torch(run):
    pytest.importorskip("onnxruntime")
    hidden = ("torch", "torchvision", "timm", "open_clip", "safetensors", "onnx", "onnxscript")
    start = f"import sys; sys.modules.update(dict.fromkeys({hidden}))"
    words = ("--weight", "gone.onnx", "--images", "my_people", "--out", "logs.npz")
    script = f"{start}; from clipreid.tools.extract import main; main()"
    error = run("python", "-c", script, *words, status=2).stderr
    assert "gone.onnx" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("clipreid-plots", "training", "--out", "a.png", "logs"),
        ("clipreid-search", "--weight", "a.pth", "--images", "my_people", "a man"),
    ],
)
def test_an_extra_that_is_missing_is_named(run, words):
    error = run(*words, status=2).stderr
    assert "clipreid[plots]" in error and error.count("\n") == 1
