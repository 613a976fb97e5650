"""A rule that reading the code can check: nothing that files or words of others say is run.

As in test_architecture.py, it is a function from a file's place and text to the lines that break it.
"""

import ast
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest

from tests.test_architecture import ROOT, python_files, room

RUNNING_BUILTINS = {"eval", "exec", "compile", "__import__"}
UNPICKLING_MODULES = {
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "jsonpickle",
    "joblib",
    "marshal",
    "shelve",
}
FORBIDDEN = {
    *(f"pickle.{name}" for name in ("load", "loads", "Unpickler")),
    *(f"yaml.{kind}load{every}" for kind in ("full_", "unsafe_") for every in ("", "_all")),
    *("yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader"),
    *("torch.jit.load", "torch.hub.load", "torch.package.PackageImporter"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("shutil.unpack_archive", "pandas.read_pickle"),
}
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader", "yaml.BaseLoader"}
ARCHIVES = {"zipfile", "tarfile"}


def full_names(tree: ast.AST) -> dict[str, str]:
    """What imports bind: the name here → the full name, e.g. np → numpy, load → torch.load."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def full_name(node: ast.AST, names: dict[str, str]) -> str:
    """torch.load for `torch.load`, `t.load` and `load`, whatever was imported; '' for other expressions."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        owner = full_name(node.value, names)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def is_constant(node: ast.AST | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def wrong_call(call: ast.Call, names: dict[str, str]) -> str:
    """What is wrong with a call, '' for nothing."""
    options = {word.arg: word.value for word in call.keywords}
    name = full_name(call.func, names)
    if isinstance(call.func, ast.Name) and call.func.id in RUNNING_BUILTINS and not name:
        return call.func.id
    if name == "torch.load" and not is_constant(options.get("weights_only"), True):
        return "torch.load without weights_only=True"
    if name == "numpy.load" and not is_constant(options.get("allow_pickle", ast.Constant(False)), False):
        return "numpy.load with allow_pickle"
    if name in ("yaml.load", "yaml.load_all"):
        loader = options.get("Loader", call.args[1] if len(call.args) > 1 else None)
        if loader is None or full_name(loader, names) not in SAFE_LOADERS:
            return f"{name} without SafeLoader"
    if "shell" in options and not is_constant(options["shell"], False):
        return "a command for the shell"
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("extract", "extractall"):
        unpacks = any(full.split(".")[0] in ARCHIVES for full in names.values())
        if unpacks or call.func.attr == "extractall":
            return f"unpacking with {call.func.attr}"
    return ""


def allowed_bases(tree: ast.AST) -> set[ast.AST]:
    """Unpicklers that decide for themselves what a name in the pickle stands for."""
    return {
        base
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(isinstance(part, ast.FunctionDef) and part.name == "find_class" for part in node.body)
        for base in node.bases
    }


def runs_what_files_say(place: PurePosixPath, text: str) -> Iterator[str]:
    """No eval and exec, no pickles, no YAML objects, no unpacking, no shell."""
    if room(place) == "tests":
        return
    tree = ast.parse(text)
    names, allowed = full_names(tree), allowed_bases(tree)
    for node in ast.walk(tree):
        wrong = ""
        if isinstance(node, ast.Import):
            wrong = next((a.name for a in node.names if a.name.split(".")[0] in UNPICKLING_MODULES), "")
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")[0]
            wrong = module if module in UNPICKLING_MODULES else ""
        elif isinstance(node, ast.Call):
            wrong = wrong_call(node, names)
        elif isinstance(node, ast.Name | ast.Attribute) and node not in allowed:
            name = full_name(node, names)
            wrong = name if name in FORBIDDEN else ""
        if wrong:
            yield f"{place}:{node.lineno}: {wrong}"


def test_rule_holds():
    places = python_files()
    broken = [
        line for place in places for line in runs_what_files_say(place, (ROOT / place).read_text("utf-8"))
    ]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    "text",
    [
        "x = eval(text)",
        "exec('import os')",
        "compile(text, 'a', 'exec')",
        "__import__(name)",
        "import pickle\npickle.load(file)",
        "import pickle as p\np.loads(text)",
        "from pickle import loads\nloads(text)",
        "from pickle import loads as read\nx = map(read, texts)",
        "import pickle\npickle.Unpickler(file).load()",
        "import pickle\nclass Reader(pickle.Unpickler):\n    def persistent_load(self, pid): ...",
        "import dill",
        "import joblib.numpy_pickle",
        "from joblib import load",
        "def f():\n    import shelve",
        "import marshal",
        "import _pickle",
        "import yaml\nyaml.load(text)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import yaml\nyaml.load(text, yaml.FullLoader)",
        "import yaml\nyaml.full_load(text)",
        "import yaml\nyaml.unsafe_load_all(text)",
        "from yaml import load, UnsafeLoader\nload(text, UnsafeLoader)",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=choice)",
        "from torch import load as read\nread(path)",
        "import torch.serialization\ntorch.load(path)",
        "import torch\ntorch.jit.load(path)",
        "import torch\ntorch.hub.load('a', 'b')",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy\nnumpy.load(path, allow_pickle=choice)",
        "import zipfile\nzipfile.ZipFile(path).extractall()",
        "import tarfile\narchive.extract(name)",
        "archive.extractall(folder)",
        "import shutil\nshutil.unpack_archive(path)",
        "import subprocess\nsubprocess.run(text, shell=True)",
        "from subprocess import Popen\nPopen(text, shell=choice)",
        "import os\nos.system(text)",
        "from os import popen\npopen(text)",
    ],
)
@pytest.mark.parametrize("place", ["utils/a.py", "train.py", "tools/a.py", "benchmarks/a.py"])
def test_rule_sees_what_breaks_it(place, text):
    assert list(runs_what_files_say(PurePosixPath(place), text))


@pytest.mark.parametrize(
    "text",
    [
        "model.eval()",
        "import re\nre.compile('a')",
        "import torch\nmodule.compile()\ntorch.compile(module)",
        "import ast\nast.literal_eval(text)",
        "from re import compile\ncompile('a')",
        "import pickle\ntry: ...\nexcept pickle.UnpicklingError: ...",
        "import pickle\npickle.dumps(1)",
        "import pickle\nclass Reader(pickle.Unpickler):\n    def find_class(self, module, name): ...",
        "import yaml\nyaml.safe_load(text)\nyaml.compose(text, Loader=yaml.SafeLoader)",
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
        "import torch\ntorch.load(path, map_location='cpu', weights_only=True)",
        "import torch\ntorch.jit.trace(model, x)",
        "import json\njson.load(file)\njson.loads(text)",
        "import numpy as np\nnp.load(path)\nnp.load(path, allow_pickle=False)",
        "from processor import inference\nextract(model)\ninference.extract(model)",
        "import zipfile\narchive.read(name)",
        "import subprocess\nsubprocess.run(['git'], shell=False)",
        "eval_steps = 3\n'eval(x)'",
    ],
)
def test_rule_lets_pass_what_is_fine(text):
    assert not list(runs_what_files_say(PurePosixPath("utils/a.py"), text))


def test_tests_may_make_what_is_refused():
    assert not list(runs_what_files_say(PurePosixPath("tests/a.py"), "exec(text)"))
