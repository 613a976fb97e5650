"""Texts of all kinds as keys and names, values at their limits, and what is refused in one line."""

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
import torch

pytest.importorskip("pymilvus")

from retrieval import Gallery, Metadata, SpaceModel

MODELS = {"reid": SpaceModel(name="toy", sha256="e" * 64, width=4)}
TEXTS = [
    "'",
    '"',
    "\\",
    '\\"',
    "\\\\'",
    '" or key != "',
    '"] or true or key in ["',
    "{name}",
    "%",
    "_%_",
    "$meta",
    "null",
    "true",
    "1",
    "-1e5",
    "a" * 500,
    "Łódź",
    "安全门",
    "山田\u3000太郎",
    "กล้อง",
    "مریم\u200cسادات",
    "👩\u200d👩\u200d👧 🚗",
    "e\u0301",
    "\u00e9",
    "C:\\pictures\\new.jpg",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "\\u0041",
    "\\n\\t",
    "a\u00a0b",
]
UNPRINTABLE = ["a\nb", "\t", "\x00", "\x1b[31m", "\u202e", "\ud800", "\ufeff", "\x7f", "\u2028"]


def rows(count, seed=0):
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def gallery(address):
    with Gallery.create(address, MODELS) as gallery:
        yield gallery


def test_texts_are_kept_and_filtered_by(gallery):
    facts = [Metadata(identity=text, camera=text, path=text, more={text: [text]}) for text in TEXTS]
    gallery.add(rows(len(TEXTS)), TEXTS, facts)
    assert dict(gallery.entries()) == dict(zip(TEXTS, facts, strict=True))
    assert gallery.identities() == gallery.cameras() == dict.fromkeys(TEXTS, 1)
    assert gallery.known(TEXTS) == set(TEXTS)
    assert [entry.metadata for entry in gallery.get(TEXTS)] == facts
    everything = set(TEXTS)
    for text in TEXTS:
        for options, expected in (
            ({"cameras": [text]}, {text}),
            ({"exclude_camera": text}, everything - {text}),
        ):
            (found,) = gallery.search(rows(1), 100, **options)
            assert {hit.key for hit in found} == expected
        assert [entry.key for entry in gallery.entries(identities=[text])] == [text]
        assert gallery.rename(text, "renamed") == 1
    assert gallery.identities() == {"renamed": len(TEXTS)}
    for number, text in enumerate(TEXTS):
        assert gallery.assign([text], TEXTS[number - 1]) == 1
    assert gallery.identities() == dict.fromkeys(TEXTS, 1)
    for text in TEXTS[::3]:
        assert gallery.remove([text]) == 1
    assert {entry.key for entry in gallery.entries()} == everything - set(TEXTS[::3])


@pytest.mark.parametrize("text", UNPRINTABLE, ids=ascii)
def test_texts_that_cannot_be_printed_are_refused_in_one_line(gallery, text):
    gallery.add(rows(1), ["there"], [{"identity": "anna"}])
    uses = [
        lambda: gallery.add(rows(1), [text]),
        lambda: gallery.add(rows(1), ["a"], [{"identity": text}]),
        lambda: gallery.add(rows(1), ["a"], [{"camera": text}]),
        lambda: gallery.add(rows(1), ["a"], [{"path": text}]),
        lambda: gallery.search(rows(1), exclude_camera=text),
        lambda: gallery.search(rows(1), cameras=["gate", text]),
        lambda: gallery.rename("anna", text),
        lambda: gallery.rename(text, "anna"),
        lambda: gallery.assign(["there"], text),
        lambda: gallery.remove([text]),
        lambda: gallery.known([text]),
        lambda: gallery.get([text]),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="print") as caught:
            use()
        assert str(caught.value).isprintable()
    assert [entry.metadata.identity for entry in gallery.entries()] == ["anna"]


@pytest.mark.parametrize("text", ["a\nb\t\x00\x1b", "\u202e\ufeff"])
def test_other_facts_may_hold_any_json(gallery, text):
    more = {"text": text, "numbers": [0.1, -1e300, 2**53, None, True], "deep": {"a": [{"b": {}}]}}
    gallery.add(rows(1), ["a"], [{"more": more}])
    assert gallery.get(["a"])[0].metadata.more == more


@pytest.mark.parametrize(
    "metadata",
    [
        {"more": {"a": float("nan")}},
        {"more": {"a": "\ud800"}},
        {"more": {"\ud83d\ude97": 1}},
        {"more": {"a": "x" * 60_001}},
        {"more": {"a": {1, 2}}},
        {"more": [1]},
        {"more": None},
        {"time": "yesterday"},
        {"time": datetime.min},
        {"time": datetime.max.replace(tzinfo=timezone.utc)},
        {"identity": None},
        {"identity": 7},
        {"identity": "x" * 1025},
        {"picture": ["a"]},
        {"Identity": "anna"},
        {1: 2},
    ],
    ids=lambda metadata: ascii(metadata)[:30],
)
def test_metadata_of_other_forms_are_refused_in_one_line(gallery, metadata):
    with pytest.raises(ValueError, match="'a'") as caught:
        gallery.add(rows(1), ["a"], [metadata])
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500
    assert gallery.count() == 0


def test_times_stay_the_same_moments(gallery):
    berlin = ZoneInfo("Europe/Berlin")
    times = [
        datetime(1, 1, 2, tzinfo=timezone.utc),
        datetime(1969, 7, 20, 20, 17, 40, 123_456, tzinfo=timezone.utc),
        datetime(1970, 1, 1, tzinfo=timezone.utc),
        datetime(2026, 3, 29, 1, 59, 59, 999_999, tzinfo=berlin),
        datetime(2026, 3, 29, 3, tzinfo=berlin),
        datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=0),
        datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=1),
        datetime(2026, 5, 4, 12, tzinfo=timezone(timedelta(hours=14))),
        datetime(2026, 5, 4, 12),
        datetime(9999, 12, 30, tzinfo=timezone.utc),
    ]
    keys = [f"t{number}" for number in range(len(times))]
    gallery.add(rows(len(times)), keys, [{"time": time} for time in times])
    kept = [entry.metadata.time for entry in gallery.get(keys)]
    moments = [time.astimezone(timezone.utc) for time in times]
    assert [time.astimezone(timezone.utc) for time in kept] == moments
    assert all(time.tzinfo is not None for time in kept)
    for since in moments:
        (hits,) = gallery.search(rows(1), 100, since=since)
        assert {hit.key for hit in hits} == {
            key for key, moment in zip(keys, moments, strict=True) if moment >= since
        }


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize("time", [datetime.min, datetime.max.replace(tzinfo=timezone(timedelta(hours=-9)))])
def test_spans_beyond_the_calendar_are_refused(gallery, name, time):
    with pytest.raises(ValueError, match="allowed"):
        gallery.search(rows(1), **{name: time})


def test_all_that_a_request_may_hold(gallery):
    keys = [f'{number:04d}"' + "k" * 507 for number in range(1500)]
    facts = [{"camera": f"c{number % 3}", "more": {"x": "y" * 2000}} for number in range(1500)]
    gallery.add(rows(1500), keys, facts)
    assert gallery.count() == 1500
    for k in (1500, 16_384):
        found = gallery.search(rows(3, seed=1), k)
        assert [len({hit.key for hit in hits}) for hits in found] == [1500] * 3
    assert sum(1 for _ in gallery.entries()) == 1500
    assert gallery.remove(keys) == 1500
    assert gallery.count() == 0 and gallery.search(rows(2)) == [[], []]


def test_nothing_is_asked(gallery):
    gallery.add(torch.empty(0, 4), [], [])
    assert gallery.search(torch.empty(0, 4)) == []
    assert (gallery.remove([]), gallery.assign([], "anna"), gallery.known([])) == (0, 0, set())
    assert gallery.features([]).shape == (0, 4)
