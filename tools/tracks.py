"""Tell which tracks of a video show the same person, by the features of their crops.

python tools/extract.py --weight logs/run/ViT-B-16_60.pth --images logs/street/crops --out features.npz
python tools/tracks.py --crops logs/street --features features.npz --threshold 0.5

A track is one query with several pictures. --crops are folders of tools/crops.py; --out gets people.csv,
tracks.npz (a feature for each track), and a page with the nearest tracks of each.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, one_or_more, say
from tools.ranking.report import DISTANCE, Album, Report, make_rows
from tools.video.joining import JOINS, join_tracks, track_features
from utils.files import require_writable, write_atomically
from utils.labels import NO_CAMERA, NO_PID
from utils.package import require_extra
from utils.text import one_line, printable
from utils.untrusted.plain import read_plain_lines

if TYPE_CHECKING:
    import torch

    from retrieval import FeatureSet, Ranking

CSV, TRACKS = "crops.csv", "tracks.csv"
# The marks say what was joined here, not what is right.
_JOINED = DISTANCE._replace(match="joined to it", miss="not joined")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no finite number")
    return value


def _threshold(text: str) -> float:
    if (value := _finite(text)) < 0:
        raise ValueError
    return value


_NEEDED: Mapping[str, Mapping[str, Callable[[str], Any]]] = {
    CSV: {"path": str, "track": int, "score": _finite},
    TRACKS: {"track": int, "camid": int, "first_frame": int, "last_frame": int, "first": str, "last": str},
}
_COLUMNS = ("folder", "track", "person", "camid", "first", "last", "crops", "nearest", "distance")


@dataclass(frozen=True)
class Seen:
    """A track: its folder and number, its camera, first and last frame with their times, and its crops.

    `rows` are those of the crops' features, `scores` the detector's.
    """

    folder: Path
    number: int
    camid: int
    frames: tuple[int, int]
    times: tuple[str, str]
    rows: tuple[int, ...]
    scores: tuple[float, ...]

    @property
    def key(self) -> str:
        """The name of the track among those of all folders."""
        return f"{self.folder}/track {self.number}"


def read_tracks(folders: Sequence[Path], images: FeatureSet) -> list[Seen]:
    """The tracks of folders of tools/crops.py whose crops have features; what has none is counted.

    Raises FileNotFoundError or ValueError for a folder without such files, and where no crop has a feature.
    """
    for place, folder in enumerate(folders):
        if any(folder.samefile(other) for other in folders[:place] if folder.exists() and other.exists()):
            raise ValueError(f"--crops {folder} is given twice; allowed: each folder once")
    rows = {os.path.realpath(path): row for row, path in enumerate(images.paths)}
    tracks, crops, without = [], 0, []
    for folder in folders:
        known: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for line in _read_csv(folder / CSV):
            crops += 1
            row = rows.get(os.path.realpath(folder / line["path"]))
            if row is None:
                without.append(line["path"])
            else:
                known[line["track"]].append((row, line["score"]))
        for line in _read_csv(folder / TRACKS):
            if found := known.get(line["track"]):
                frames, times = (line["first_frame"], line["last_frame"]), (line["first"], line["last"])
                features = (tuple(each) for each in zip(*found, strict=True))
                tracks.append(Seen(folder, line["track"], line["camid"], frames, times, *features))
    if not tracks:
        raise ValueError(
            f"none of {crops} crops has a feature; allowed: those of tools/extract.py --images FOLDER/crops"
        )
    if without:
        say("%d of %d crops have no feature and do not count, e.g. %s", len(without), crops, without[0])
    return tracks


def _read_csv(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"--crops: {path} does not exist; allowed: a folder of tools/crops.py")
    reader = csv.DictReader(read_plain_lines(path))
    try:
        for line in reader:
            yield {name: kind(line[name]) for name, kind in _NEEDED[path.name].items()}
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"{path}, line {reader.line_num}: {one_line(error)}; allowed: a file of tools/crops.py"
        ) from error


def tell(args: argparse.Namespace) -> None:
    """Write the files of tracks that the options ask for, and print what was found.

    Raises ValueError or OSError for files that cannot be used.
    """
    require_extra("plots")
    import torch

    from retrieval import FeatureSet
    from tools.ranking.pictures import publish

    out = args.out or args.crops[0]
    out.mkdir(parents=True, exist_ok=True)
    require_writable(out / "people.csv", "--out")
    images = FeatureSet.load(args.features).normalized()
    tracks = read_tracks(args.crops, images)
    features = track_features(
        images.features, [track.rows for track in tracks], [track.scores for track in tracks], args.join
    )
    apart = _apart(tracks)
    distances = torch.cdist(features.double(), features.double()).square()
    persons = [NO_PID] * len(tracks)
    if args.threshold is not None:
        persons = join_tracks(distances.numpy(), apart, args.threshold).tolist()
    best = [images.paths[track.rows[int(np.argmax(track.scores))]] for track in tracks]
    keys = [track.key for track in tracks]
    known = FeatureSet(features, persons, [track.camid for track in tracks], best, keys)
    known.save(out / "tracks.npz", {"features": str(args.features), "join": args.join, "normalize": True})
    distances[torch.from_numpy(apart)] = torch.inf
    _write_csv(out / "people.csv", tracks, persons, distances)
    facts = [f"{len(tracks)} tracks, {sum(len(track.rows) for track in tracks)} crops"]
    if args.threshold is not None:
        people, joined = len(set(persons)), len(persons) - len(set(persons))
        facts.append(
            f"{people} people at distances up to {args.threshold:g}, {joined} tracks joined to another"
        )
    for fact in facts:
        say("%s", fact)
    say("%s", out / "people.csv")
    longest = sorted(range(len(tracks)), key=lambda row: -len(tracks[row].rows))[: args.show]
    rankings = [_rank(row, distances[row], persons, args.top) for row in longest]
    album = Album()
    spans = [f"{track.key}, {track.times[0]} to {track.times[1]}" for track in tracks]
    shown = FeatureSet(
        features, persons, [NO_CAMERA] * len(tracks), best, spans
    )  # or cameras stand for names
    title = printable(", ".join(folder.name for folder in args.crops))
    rows = make_rows(shown, shown, rankings, album, _JOINED)
    publish(Report(title, tuple(facts), _JOINED, "", rows), album, out)


def _apart(tracks: Sequence[Seen]) -> np.ndarray:
    """Which tracks (T, T) cannot be compared: seen at once by one camera, or one and the same."""
    first, last = (np.array([track.frames[end] for track in tracks]) for end in (0, 1))
    places = np.array([f"{track.folder}#{track.camid}" for track in tracks])
    at_once = (first[:, None] <= last[None]) & (first[None] <= last[:, None])
    return at_once & (places[:, None] == places[None])


def _rank(row: int, distances: torch.Tensor, persons: Sequence[int], top: int) -> Ranking:
    from retrieval import RankedImage, Ranking

    known = persons[row] != NO_PID
    order = [other for other in distances.argsort(stable=True).tolist() if distances[other] < math.inf]
    same = [other for other in order if persons[other] == persons[row]] if known else []
    found = tuple(
        RankedImage(other, float(distances[other]), other in same if known else None) for other in order[:top]
    )
    return Ranking(row, found, len(same), None, order.index(same[0]) + 1 if same else None)


def _write_csv(path: Path, tracks: Sequence[Seen], persons: Sequence[int], distances: torch.Tensor) -> None:
    def write(beside: Path) -> None:
        with open(beside, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            for row, track in enumerate(tracks):
                least, nearest = distances[row].min(dim=0)
                near = (tracks[int(nearest)].key, f"{least:.4f}") if least < math.inf else ("", "")
                span = *track.times, len(track.rows)
                writer.writerow([track.folder, track.number, persons[row], track.camid, *span, *near])

    write_atomically(path, write)


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or file."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--crops", required=True, type=Path, nargs="+", metavar="DIR", help="folders of tools/crops.py")
    add(
        "--features",
        required=True,
        type=Path,
        metavar="FILE",
        help="features of all crops, by tools/extract.py",
    )
    add("--out", type=Path, metavar="DIR", help="folder to write to (default: the first of --crops)")
    add(
        "--join",
        choices=tuple(JOINS),
        default="mean",
        help="a track's feature: mean of its crops' (default), best crop's",
    )
    add(
        "--threshold",
        type=_threshold,
        metavar="X",
        help="squared distance up to which two tracks are one person, as tools/threshold.py finds it "
        "(default: tell no people)",
    )
    add("--top", type=one_or_more, default=10, metavar="K", help="tracks beside each (default: 10)")
    add(
        "--show",
        type=one_or_more,
        default=50,
        metavar="N",
        help="tracks on the page, longest first (default: 50)",
    )
    args = parser.parse_args(argv)
    with end_in_one_line():
        tell(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
