"""How soon a program answers: nothing heavy is imported before its arguments are read."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from datasets.drawn import DOMAINS, LANGUAGES, draw_captions, draw_market1501
from retrieval import INDEXES, SPACES
from tools.gallery import COMMANDS

ROOT = Path(__file__).parents[1]
# torch with what needs it, and all else that takes a tenth of a second or more.
HEAVY = ["torch", "torchvision", "open_clip", "timm", "transformers", "onnxruntime", "scipy", "sklearn"]
HEAVY += ["skimage", "cv2", "matplotlib", "pymilvus", "fastapi", "gradio", "mlflow", "huggingface_hub"]
HEAVY += ["datasets", "model", "loss", "solver", "retrieval", "processor", "service"]
PROGRAMS = sorted({*ROOT.glob("train*.py"), *ROOT.glob("test*.py"), ROOT / "zero_shot.py"})
TOOLS = sorted(ROOT.glob("tools/[!_]*.py"))
WITH_COMMANDS = {"gallery": COMMANDS, "hub": ("save", "push"), "plots": ("cmc", "training")}
ASKED = [[path] for path in (*PROGRAMS, *TOOLS)]
ASKED += [[ROOT / f"tools/{tool}.py", each] for tool, commands in WITH_COMMANDS.items() for each in commands]
# Asks all in one process, in which a module stays imported: the first that imports one is named.
ASK = f"""
import contextlib, io, json, runpy, sys
sys.path.insert(0, {str(ROOT)!r})
found = {{}}
for words in json.loads(sys.argv.pop()):
    sys.argv[:], before, status, printed = [*words, "--help"], set(sys.modules), None, io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        status = end.code
    heavy = sorted((sys.modules.keys() - before) & set({HEAVY!r}))
    found[" ".join(words)] = status, printed.getvalue(), heavy
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def answers():
    """(status, help, heavy modules that were imported) by the words of a program."""
    words = json.dumps([list(map(str, asked)) for asked in ASKED])
    done = subprocess.run([sys.executable, "-c", ASK, words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: "-".join([asked[0].stem, *asked[1:]]))
def test_help_is_shown_before_anything_heavy_is_imported(answers, asked):
    status, printed, heavy = answers[" ".join(map(str, asked))]
    assert status == 0 and printed.startswith("usage: ")
    assert not heavy, "imported before arguments are read; allowed: in the function that needs it"


def test_the_help_of_galleries_offers_what_there_is(answers):
    for command, option, there in (("create", "index", INDEXES), ("export", "space", SPACES)):
        _, printed, _ = answers[f"{ROOT / 'tools/gallery.py'} {command}"]
        assert f"--{option} {{{','.join(there)}}}" in printed


def test_the_help_of_drawn_people_tells_what_their_functions_do(answers):
    market, captions = draw_market1501.__kwdefaults__, draw_captions.__kwdefaults__
    _, printed, _ = answers[str(ROOT / "tools/draw_people.py")]
    printed = " ".join(printed.split())
    for name in ("train_ids", "test_ids", "images_per_camera", "cameras", "distractors", "seed"):
        others = captions.get(name, market[name])
        with_captions = "" if others == market[name] else f", with --captions {others}"
        told = re.search(rf" --{name} N .*?\(default: (.*?)\)", printed)
        assert told and told[1] == f"{market[name]}{with_captions}"
    assert f"--domain {{{','.join(DOMAINS)}}}" in printed
    assert f"English ones: {', '.join(filter(None, LANGUAGES))} (default" in printed
    assert "H W height and width of a picture in pixels (default: {} {})".format(*market["size"]) in printed
