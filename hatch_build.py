"""Builds the wheel: the folders, flat in the repository, become one package `clipreid`.

At the top level, names such as `datasets` and `utils` would clash with other packages.
"""

import re
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOMS = "config|configs|datasets|loss|model|processor|retrieval|service|solver|tools|utils"
SUFFIXES = (".py", ".yml", ".json", ".j2", ".html", ".css", ".js")
PROGRAMS = ("train*.py", "test*.py", "zero_shot.py")
FACE = "clipreid.py"
PATH_LINE = re.compile(r"^sys\.path\.insert\(.*\n", re.MULTILINE)  # of tools run as files


class CustomBuildHook(BuildHookInterface):
    """Adds the package to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the package to a temporary folder; raises ValueError as `packaged` does."""
        if version == "editable":
            raise ValueError("clipreid has no editable install: run the programs in the repository instead")
        root = Path(self.root)
        programs = [path for form in PROGRAMS for path in root.glob(form)]
        files = [
            path for room in ROOMS.split("|") for path in (root / room).rglob("*") if path.suffix in SUFFIXES
        ]
        names = "|".join([ROOMS, *(path.stem for path in programs)])
        self.folder = tempfile.TemporaryDirectory()
        package = Path(self.folder.name)
        for path in [*files, *programs, root / FACE]:
            target = package / ("__init__.py" if path == root / FACE else path.relative_to(root))
            target.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_text(encoding="utf-8")
            target.write_text(packaged(text, names, path) if path.suffix == ".py" else text, encoding="utf-8")
        (package / "py.typed").touch()
        build_data["force_include"][str(package)] = "clipreid"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary folder."""
        self.folder.cleanup()


def packaged(text: str, names: str, path: Path) -> str:
    """The source of a module in the package, where `names`, joined by |, are no longer at the top level.

    Raises ValueError for an `import` without `from`, which cannot be rewritten.
    """
    bare = re.search(rf"^[ \t]*import (?:{names})\b.*", text, re.MULTILINE)
    if bare:
        raise ValueError(f"{path}: {bare[0].strip()!r}; allowed: from ... import ...")
    imports = re.compile(rf"^([ \t]*from )(?=(?:{names})(?:\.[\w.]+)? import\b)", re.MULTILINE)
    return PATH_LINE.sub("", imports.sub(r"\1clipreid.", text))


class CustomMetadataHook(MetadataHookInterface):
    """Reads dependencies from requirements.txt, and from requirements-extra.txt the extras not in `[all]`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in dependencies and optional dependencies."""
        groups, heavy = (
            requirements(Path(self.root) / name) for name in ("requirements.txt", "requirements-extra.txt")
        )
        metadata["dependencies"] = groups.pop("")
        everything = [f"clipreid[{','.join(groups)}]"]
        metadata["optional-dependencies"] = {**groups, "all": everything, **heavy}


def requirements(path: Path) -> dict[str, list[str]]:
    """The lines of a file by extra: those below `# [name]` are of that one, those before of ''."""
    groups: dict[str, list[str]] = {}
    extra = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        requirement, _, comment = (part.strip() for part in line.partition("#"))
        if requirement:
            groups.setdefault(extra, []).append(requirement)
        elif comment.startswith("["):
            extra = comment.strip("[]")
    return groups
