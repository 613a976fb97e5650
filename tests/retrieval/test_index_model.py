"""Any sequence of changes and searches gives what a dictionary and a matrix product give, ties apart."""

import os
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytest.importorskip("pymilvus")

from retrieval import FeatureSet, Gallery, Metadata, SpaceModel, rank_gallery

MODELS = {"reid": SpaceModel(name="toy", sha256="e" * 64, width=3)}
KEYS = ["a", "A", "a ", "0", "ключ", '"', "'", "\\", "a/b.jpg", "🚗", "k[1]", "not a"]
NAMES = ["", "anna", "Anna", "o'neil", '"the" door', "李", "\\n"]
BERLIN = ZoneInfo("Europe/Berlin")
TIMES = [
    None,
    datetime(2026, 5, 4, 12, tzinfo=timezone.utc),
    datetime(2026, 5, 4, 14, 0, 0, 1, tzinfo=BERLIN),
    datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=0),  # the hour that comes twice
    datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc),
    datetime(1900, 1, 1, tzinfo=timezone(timedelta(hours=-11, minutes=-30))),
]
SLACK = 1e-5
AT_SERVER = "CLIPREID_TEST_MILVUS" in os.environ
LIMITS = settings(
    max_examples=6 if AT_SERVER else 50,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # a gallery lives through all examples: none can be shrunk
    suppress_health_check=list(HealthCheck),
)

features = st.lists(st.integers(-2, 2), min_size=3, max_size=3).filter(any)
metadata = st.builds(
    Metadata,
    identity=st.sampled_from(NAMES),
    camera=st.sampled_from(NAMES),
    time=st.sampled_from(TIMES),
    more=st.sampled_from([{}, {"n": [1, None, "é"]}]),
)
some_keys = st.lists(st.sampled_from(KEYS), unique=True, max_size=5)
filters = st.fixed_dictionaries(
    {},
    optional={
        "exclude_camera": st.sampled_from(NAMES),
        "cameras": st.lists(st.sampled_from(NAMES), max_size=3),
        "since": st.sampled_from(TIMES),
        "until": st.sampled_from(TIMES),
        "threshold": st.sampled_from([0.1, 1.0, 3.0]),
    },
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.dictionaries(st.sampled_from(KEYS), st.tuples(features, metadata))),
        st.tuples(st.just("remove"), some_keys),
        st.tuples(st.just("assign"), some_keys, st.sampled_from(NAMES)),
        st.tuples(st.just("rename"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
        st.tuples(st.just("search"), st.lists(features, min_size=1, max_size=3), st.integers(1, 8), filters),
        st.tuples(st.just("reopen")),
    ),
    min_size=4,
    max_size=25,
)


class Twins:
    """A gallery, and a dictionary that should hold the same."""

    def __init__(self, address):
        self.address = address
        self.gallery = Gallery.create(address, MODELS)
        self.held = {}

    def start_afresh(self):
        self.gallery.remove(list(self.held))
        self.held = {}

    def add(self, items):
        rows = torch.tensor([feature for feature, _ in items.values()], dtype=torch.float32).reshape(-1, 3)
        self.gallery.add(rows, list(items), [each for _, each in items.values()])
        self.held |= {
            key: (unit(feature), each.model_copy(update={"time": in_utc(each.time)}))
            for key, (feature, each) in items.items()
        }

    def remove(self, keys):
        assert self.gallery.remove(keys) == len(self.held.keys() & set(keys))
        self.held = {key: value for key, value in self.held.items() if key not in keys}

    def assign(self, keys, name):
        if self.held.keys() >= set(keys):
            assert self.gallery.assign(keys, name) == len(keys)
            self._name(keys, name)
            return
        with pytest.raises(KeyError, match="no entry with the key"):
            self.gallery.assign(keys, name)

    def rename(self, old, new):
        keys = [key for key, (_, each) in self.held.items() if each.identity == old]
        assert self.gallery.rename(old, new) == (0 if old == new else len(keys))
        self._name(keys, new)

    def _name(self, keys, name):
        for key in keys:
            feature, each = self.held[key]
            self.held[key] = feature, each.model_copy(update={"identity": name})

    def reopen(self):
        self.gallery.close()
        self.gallery = Gallery.open(self.address, MODELS)

    def search(self, queries, k, options):
        answers = self.gallery.search(torch.tensor(queries, dtype=torch.float32), k, **options)
        assert len(answers) == len(queries)
        for query, hits in zip(queries, answers, strict=True):
            similarity = {
                key: float(unit(query) @ feature)
                for key, (feature, each) in self.held.items()
                if meets(each, options)
            }
            best = sorted(similarity.values(), reverse=True)[:k]
            limit = options.get("threshold", 4) + SLACK
            best = [value for value in best if 2 - 2 * value <= limit]
            assert [hit.similarity for hit in hits] == pytest.approx(best, abs=SLACK)
            assert len({hit.key for hit in hits}) == len(hits)
            for hit in hits:
                assert hit.similarity == pytest.approx(similarity[hit.key], abs=SLACK)
                assert hit.metadata == self.held[hit.key][1]

    def compare(self):
        gallery, held = self.gallery, self.held
        assert gallery.count() == len(held)
        assert dict(gallery.entries()) == {key: each for key, (_, each) in held.items()}
        assert gallery.known(KEYS) == held.keys()
        expected = torch.stack([feature for feature, _ in held.values()]) if held else torch.empty(0, 3)
        torch.testing.assert_close(gallery.features(list(held)), expected)
        names = [each.identity for _, each in held.values()]
        assert gallery.identities() == {name: names.count(name) for name in names}


def in_utc(time):
    """Python calls times of the hour that comes twice unequal to those of other zones."""
    return time and time.astimezone(timezone.utc)


def unit(feature):
    return torch.nn.functional.normalize(torch.tensor(feature, dtype=torch.float32), dim=0)


def meets(each, options):
    cameras = options.get("cameras")
    since, until = (in_utc(options.get(name)) for name in ("since", "until"))
    return (
        (not options.get("exclude_camera") or each.camera != options["exclude_camera"])
        and (cameras is None or each.camera in cameras)
        and (since is None or (each.time is not None and each.time >= since))
        and (until is None or (each.time is not None and each.time <= until))
    )


def test_any_sequence_gives_what_a_dictionary_gives(address):
    twins = Twins(address)

    @LIMITS
    @given(steps)
    def holds(sequence):
        twins.start_afresh()
        for name, *given_values in sequence:
            getattr(twins, name)(*given_values)
            if name != "search":
                twins.compare()

    try:
        holds()
    finally:
        twins.gallery.close()


def test_a_search_ranks_as_the_evaluation_does(address, people_task):
    """Both with all images, and with those of other cameras."""
    items = people_task(identities=15, spread=0.9).images
    width = items.features.shape[1]
    models = {"reid": SpaceModel(name="toy", sha256="e" * 64, width=width)}
    everything = FeatureSet(items.features.float(), items.pids, items.camids, items.paths)
    with Gallery.create(address, models) as gallery:
        labels = zip(items.pids.tolist(), items.camids.tolist(), strict=True)
        facts = [Metadata(identity=f"p{pid}", camera=f"c{camid}") for pid, camid in labels]
        gallery.add(everything.features, everything.paths, facts)
        for row in range(0, len(everything), 7):
            camera = facts[row].camera
            for rule, options in (("all", {}), ("cross_camera", {"exclude_camera": camera})):
                (ranking,) = rank_gallery(everything, everything, [row], len(everything), rule=rule)
                expected = [
                    image
                    for image in ranking.images
                    if not options or everything.camids[image.row] != everything.camids[row]
                ]
                (hits,) = gallery.search(everything.features[row], len(everything), **options)
                assert [hit.distance for hit in hits] == pytest.approx(
                    [image.distance for image in expected], abs=SLACK
                )
                keys = [everything.paths[image.row] for image in expected]
                distance = {key: image.distance for key, image in zip(keys, expected, strict=True)}
                assert sorted(keys) == sorted(hit.key for hit in hits)
                for key, hit in zip(keys, hits, strict=True):
                    assert key == hit.key or abs(distance[key] - distance[hit.key]) < SLACK
