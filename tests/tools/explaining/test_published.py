"""The published recipes agree with README, with the page of data sets, and with themselves."""

import re

import pytest

from datasets.readers import READERS
from tools.explaining import published
from tools.explaining.published import COUNTS, RECIPES


def test_published_numbers_are_those_of_the_readme(repository):
    text = (repository / "README.md").read_text()
    order = ("msmt17", "market1501", "dukemtmc", "occ_duke", "veri", "VehicleID")
    rows = {}
    for line in text.splitlines():
        cells = [re.sub(r"\[(.+?)\]\(.+?\)", r"\1", cell.strip()) for cell in line.strip("|").split("|")]
        if len(cells) == 7:
            rows[cells[0]] = dict(zip(order, cells[1:], strict=True))
    for recipe in RECIPES:
        if recipe.method in ("tbps", "pcl_clusters"):
            continue
        shown = {name: cell for name, cell in rows[recipe.name].items() if cell != "–"}
        told = {
            name: " / ".join(f"{v:.1f}" for v in found.values()) for name, found in recipe.figures.items()
        }
        assert told == shown


def test_counts_are_those_of_the_page(repository):
    text = (repository / "docs/data.md").read_text()
    for name, splits in COUNTS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))
        counts = [f"{images:,}" for images, _ in splits.values() if images]
        identities = f"{splits['train'][1]:,} |"
        assert f" {identities}" in row
        if name in published.CAPTIONS:
            train, test = counts
            assert f"| {train} /" in row and f"| {test} /" in row
        else:
            assert " / ".join(counts) in row and f"| {identities}" in row


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_file_of_a_recipe_is_its_own_nearest(recipe):
    for dataset in recipe.files:
        found = published.find_recipe(recipe.method, recipe.settings(dataset), dataset)
        assert found.name == recipe.name
    assert set(recipe.figures) <= {*READERS, *published.CAPTIONS}
