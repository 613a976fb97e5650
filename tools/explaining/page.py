"""The page of an explanation: the numbers, what explains them, the settings that differ, circumstances."""

import re
from collections.abc import Collection, Mapping, Sequence

from config.load import load_config
from processor import METHODS
from tools.comparing.runs import METRICS, OF_TESTS
from tools.comparing.sheet import Table
from tools.explaining.causes import Case, find_causes, tested_set
from tools.explaining.published import differing, find_recipe, keys_of
from tools.explaining.reading import Known
from utils.text import shortened
from utils.untrusted.receipts import Section
from utils.untrusted.settings import leaves

_SHOWN, _LINE = 60, 600  # characters of a value, and of a command line
_CIRCUMSTANCES = (
    "command",
    "commit",
    "commits",
    "started",
    "status",
    "precision",
    "device",
    "processes",
    "seed",
)
_TITLES = {"commits": "commits of earlier parts"}
_SENTENCE_ENDS = re.compile(r"(?<!e\.g)(?<!i\.e)\. ")
_AS = {"zero_shot": "clipreid"}  # whose settings and files it takes


def explained(known: Known, recipe_file: str = "") -> list[Table]:
    """The tables of the page; `recipe_file` is compared with in place of the nearest published settings.

    Raises ValueError for a method that is not known or of which nothing is published, and as `load_config`.
    """
    case = make_case(known, recipe_file)
    causes = find_causes(case)
    rows = [["what", "here", "published", "what follows"]]
    rows += [[cause.what, cause.here, cause.published, cause.follows] for cause in causes]
    title = f"{len(causes)} found, the weightiest first" if causes else "Nothing found"
    settings = _settings(case, {key for cause in causes for key in cause.keys})
    compared = f"{case.recipe.name} ({recipe_file or case.recipe.file(case.dataset)})"
    return [
        Table(f"Metrics next to {compared}", _numbers(case), _about_numbers(case)),
        Table(f"What explains a difference: {title.lower()}", rows if causes else ()),
        settings,
        Table("How the run came about", _circumstances(known), "; ".join(known.notes)),
    ]


def make_case(known: Known, recipe_file: str = "") -> Case:
    """The run and the recipe that is nearest to it; raises as `explained`."""
    train, test = known.train, known.test
    # A test program takes files of all methods; the card says which one trained the file.
    method = train.method if train else str(test_card(test).get("method") or (test.method if test else ""))
    method = _AS.get(method, method)
    settings = dict(train.config if train else {})
    if not train and test:
        settings = test.config or {"MODEL.NAME": test.facts.get("model", "")}
    dataset = tested_set(train, test)
    recipe = find_recipe(method, settings, dataset)
    if recipe_file:
        theirs = leaves(load_config(METHODS[recipe.method].tree, recipe_file))
    else:
        theirs = recipe.settings(dataset)
    return Case(train, test, recipe, theirs)


def test_card(test: Section | None) -> dict[str, object]:
    """The card of the weights that were tested."""
    tested = test.weights.get("test") if test else None
    return dict((tested and tested.card) or {})


def _scored(case: Case) -> Section | None:
    return case.test if case.test and case.test.metrics else case.train


def _numbers(case: Case) -> list[list[str]]:
    section, figures = _scored(case), case.recipe.figures.get(case.dataset, {})
    rows = [["metric", "here", "95 % interval", "published", "difference"]]
    if section is None:
        return []
    if _is_fused(section):
        fused = _metrics(section.metrics, section.intervals, {})
        rows += [[f"{name}, fused", *cells] for name, *cells in fused]
        plain = section.facts.get("without_fusion")
        rows += _metrics(plain if isinstance(plain, Mapping) else {}, {}, figures)
    else:
        rows += _metrics(section.metrics, section.intervals, figures)
    return rows if len(rows) > 1 else []


def _is_fused(section: Section | None) -> bool:
    """Whether a test fused features with probabilities of described people."""
    return section is not None and section.facts.get("attributes") is not None


def _metrics(
    values: Mapping[str, object],
    intervals: Mapping[str, Sequence[float]],
    figures: Mapping[str, float],
) -> list[list[str]]:
    """A row a metric: fractions and their intervals next to `figures` in %."""
    rows = []
    for name, title in METRICS.items():
        value = values.get(name)
        if not isinstance(value, int | float):
            continue
        ends = [100 * end for end in intervals.get(name, [])]
        figure, gap = figures.get(name), "–"
        if figure is not None:
            gap = f"{100 * value - figure:+.1f}"
            gap += ", within the interval" if ends and ends[0] <= figure <= ends[1] else ""
        interval = f"{ends[0]:.1f} to {ends[1]:.1f}" if ends else "–"
        rows.append([title, f"{100 * value:.1f}", interval, "–" if figure is None else f"{figure:.1f}", gap])
    return rows


def _about_numbers(case: Case) -> str:
    notes = []
    if not _numbers(case):
        notes.append("No test and no evaluation was found.")
    elif case.dataset not in case.recipe.figures:
        notes.append(
            f"No number of this recipe is published for {shortened(case.dataset, _SHOWN) or 'these data'}."
        )
    if _is_fused(_scored(case)):
        notes.append("Published numbers are of features that are not fused with probabilities of people.")
    notes.append(
        "In %. Intervals are over the queries; how much another seed of training would change is not in them."
    )
    return " ".join(notes)


def _settings(case: Case, told: Collection[str]) -> Table:
    """The settings that differ, without those that a cause has `told`."""
    table, differ = keys_of(case.recipe), {}
    if case.train:
        mine = case.train.config
        differ |= {key: mine[key] for key in differing(mine, case.settings, table)}
    if case.test and case.test.config:  # a test's own settings count where there was one
        mine = case.test.config
        differ = {key: value for key, value in differ.items() if not key.startswith(OF_TESTS)}
        own = [key for key in differing(mine, case.settings, table) if key.startswith(OF_TESTS)]
        differ |= {key: mine[key] for key in own}
    rows = [
        [key, _value(value), _value(case.settings[key]), _meaning(table.keys[key].comment)]
        for key, value in sorted(differ.items())
        if key not in told
    ]
    title = f"{len(rows)} further settings differ from the recipe's" if rows else "No further setting differs"
    note = "Settings that change no number (folders, workers, logs, memory) are not compared."
    return Table(title, [["key", "here", "published", "meaning"], *rows] if rows else (), note)


def _value(value: object, length: int = _SHOWN) -> str:
    return shortened(repr(value) if value == "" else value, length)


def _meaning(comment: str) -> str:
    """The first sentence of a comment."""
    return shortened(_SENTENCE_ENDS.split(comment, maxsplit=1)[0], 2 * _SHOWN)


def _circumstances(known: Known) -> list[list[str]]:
    parts = {"training": known.train, "test": known.test}
    there = {name: section for name, section in parts.items() if section is not None}
    rows = [["", *there]]
    for name in _CIRCUMSTANCES:
        length = _LINE if name == "command" else _SHOWN
        values = [getattr(section, name) for section in there.values()]
        cells = ["–" if value in ("", None, []) else _value(_listed(value), length) for value in values]
        if any(cell != "–" for cell in cells):
            rows.append([_TITLES.get(name, name), *cells])
    for split in ("train", "query", "gallery"):
        cells = [_split(section, split) for section in there.values()]
        if any(cell != "–" for cell in cells):
            rows.append([f"{split} split", *cells])
    roles = dict.fromkeys(role for section in there.values() for role in section.weights)
    for role in roles:
        rows.append([f"weights: {role}", *(_weights(section, role) for section in there.values())])
    return rows


def _listed(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _split(section: Section, name: str) -> str:
    found = section.data.splits.get(name) if section.data else None
    if found is None:
        return "–"
    captions = f", {found.captions:,} captions" if found.captions else ""
    return f"{found.images:,} images, {found.identities:,} identities, {found.cameras} cameras{captions}"


def _weights(section: Section, role: str) -> str:
    found = section.weights.get(role)
    if found is None:
        return "–"
    return f"{shortened(found.path, _SHOWN)}, SHA-256 {found.sha256[:12] or 'not known'}"
