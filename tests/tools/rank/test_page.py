"""What a page and a PNG of rankings show."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from retrieval import FeatureSet, LabelNames, RetrievalTask
from tools.ranking.report import THUMBNAIL


def test_the_page_shows_the_rankings(small, run, capsys):
    page = run("--queries", "0", "query/2_c0.jpg", "1_c1.jpg")
    assert page.queries() == ["q0", "q1", "q2"]
    assert {attributes["href"] for attributes, _ in page.all("a")} == {"#q0", "#q1", "#q2"}
    first, second, third = ["1 ✗", "2 ?", "3 ✓"], ["1 ✓", "2 ?", "3 ✗", "4 ✗"], ["1 ?", "2 ✗", "3 ✓"]
    # Query 2 is of identity 1 by camera 1: so is gallery image 0, which is therefore not there.
    assert page.labels() == ["query", *first, "query", *second, "query", *third]
    marks = [attributes["class"] for attributes, _ in page.all("figure") if "class" in attributes]
    assert marks[:3] == ["miss", "unknown", "match"]
    assert page.alts()[:4] == [
        "Query: id 1, cam 0, 1_c0.jpg",
        "Rank 1: wrong identity (id 2, cam 1), distance 1.000, 2_c1.jpg",
        "Rank 2: identity not known (id ?, cam 1), distance 4.000, x_c1.jpg",
        "Rank 3: right identity (id 1, cam 1), distance 9.000, 1_c1.jpg",
    ]
    assert len(page.alts()) == 3 + 3 + 4 + 3
    assert page.all("h1") == [({}, "market1501 · toy-vit")]
    assert "AP 33.3%" in page.source
    assert "first match at rank 3, 1 match in the gallery" in page.source
    told = capsys.readouterr().out.splitlines()
    assert told == ["3 of 3 queries, as chosen, top 10", "out/ranking.html", "out/ranking.png"]


def test_pictures_are_inside(small, run):
    pictures = run("--queries", "0").pictures()
    assert {picture.size for picture in pictures} == {small.size[::-1]}
    for picture, path in zip(pictures, (small.queries[0], small.gallery[1]), strict=False):
        np.testing.assert_allclose(np.asarray(picture)[20, 10], small.colours[path], atol=4)


def test_nothing_is_fetched_and_no_script_is_run(run):
    page = run()
    assert not page.all("script") and not page.all("link") and "http://" not in page.source
    assert all(attributes["src"].startswith("data:") for attributes, _ in page.all("img"))
    policies = [attributes["content"] for attributes, _ in page.all("meta") if "http-equiv" in attributes]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_the_png_has_a_row_for_each_query(run):
    run("--queries", "0")
    with Image.open("out/ranking.png") as image:
        one = image.size
    run("--queries", "0", "1")
    with Image.open("out/ranking.png") as image:
        assert image.width == one[0]
        assert image.height > one[1] + 300
        colours = {pixel for _, pixel in image.convert("RGB").getcolors(1 << 24)}
    # Frames: right, wrong, not known, query.
    assert {(15, 157, 88), (217, 48, 37), (138, 143, 152), (26, 86, 219)} <= colours
    assert sorted(path.name for path in Path("out").iterdir()) == ["ranking.html", "ranking.png"]


def test_the_png_ends_where_nobody_could_read_on(run, monkeypatch, capsys):
    monkeypatch.setattr("tools.ranking.pictures.PICTURE_ROWS", 2)
    run("--queries", "0", "1")
    with Image.open("out/ranking.png") as image:
        two = image.height
    page = run("--queries", "0", "1", "2")
    with Image.open("out/ranking.png") as image:
        assert image.height == two
    assert len(page.queries()) == 3
    assert capsys.readouterr().out.endswith("ranking.png (the first 2 of 3 queries)\n")


def test_large_images_become_thumbnails_of_their_shape(small, run):
    small.save_image(small.queries[0], size=(600, 1200))
    pictures = run("--queries", "0").pictures()
    assert pictures[0].size == (THUMBNAIL, THUMBNAIL // 2)
    assert pictures[1].size == small.size[::-1]


def test_top_limits_the_images(run):
    assert run("--queries", "1", "--top", "2").labels() == ["query", "1 ✓", "2 ?"]


def test_a_query_without_match_or_identity_says_so(small, run):
    images = small.task().images
    images = FeatureSet(images.features, [5, -1, 1, 1, 2, -1, 1], images.camids, images.paths)
    RetrievalTask(images, small.task().trials, {"normalize": False}).save("features.npz")
    page = run("--queries", "0", "1")
    assert [text for _, text in page.all("p", "summary")] == [
        "no match in the gallery",
        "identity not known",
    ]
    assert page.all("h1") == [({}, "features.npz")]


def test_reranked_distances(run):
    page, plain = run("--queries", "0", "--rerank"), run("--queries", "0")
    assert "k-reciprocal distance" in page.source and "re-ranked" in page.source
    assert "squared Euclidean distance" in plain.source
    assert page.alts() != plain.alts()


def test_labels_are_shown_as_the_data_set_writes_them(small, run):
    names = LabelNames(identities={1: "машина35", 2: "<b>王</b>"}, cameras={0: "东门", 1: "c1"})
    replace(small.task(), names=names).save("features.npz")
    page = run("--queries", "0")
    assert page.alts() == [
        "Query: id машина35, cam 东门, 1_c0.jpg",
        "Rank 1: wrong identity (id <b>王</b>, cam c1), distance 1.000, 2_c1.jpg",
        "Rank 2: identity not known (id ?, cam c1), distance 4.000, x_c1.jpg",
        "Rank 3: right identity (id машина35, cam c1), distance 9.000, 1_c1.jpg",
    ]
    assert page.all("span", "number")[0][1] == "id машина35"


def test_hostile_texts_are_shown_as_they_are(run):
    names = ['<script>alert("1")</script>.jpg', "\" onerror='x' $x_{2}$ & {{ 7*7 }}.jpg", "a\nb\udcff.jpg"]
    both = RetrievalTask.between(
        FeatureSet(torch.zeros(1, 1), [1], [0], names[:1]),
        FeatureSet(torch.ones(2, 1), [1, 2], [1, 1], names[1:]),
    )
    info = {"normalize": False, "dataset": "<b>&amp;</b>", "model": "$\\frac{"}
    RetrievalTask(both.images, both.trials, info).save("features.npz")
    page = run()
    assert not page.all("script")
    assert page.all("h1") == [({}, "<b>&amp;</b> · $\\frac{")]
    missing = [attributes for attributes, _ in page.all("span", "missing")]
    assert all(attributes.keys() == {"class", "role", "aria-label", "title"} for attributes in missing)
    assert [attributes["title"] for attributes in missing] == [*names[:2], r"a\nb\udcff.jpg"]
    assert Path("out/ranking.png").stat().st_size > 10_000
