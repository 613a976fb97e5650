"""Folders of unknown origin: which of their files are read, and which are left out and counted.

Links may lead in circles, and services keep thumbnails and copies next to a user's files.
"""

import heapq
import os
from collections.abc import Collection, Iterator
from operator import attrgetter
from pathlib import Path

from utils.text import Tally

# What Synology, QNAP, macOS, Windows and Linux put into a user's folders.
_SERVICE_FOLDERS = {
    *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "__macosx", "$recycle.bin"),
    *("system volume information", "lost+found"),
}
# Pictures, raw photographs, videos: a user who has some expects that they are read, or to be told.
_KINDS = """
    apng avif avifs bmp bw cur dcm dds dib emf eps exr gif hdr heic heics heif hif icns ico j2c j2k
    jfif jng jp2 jpc jpe jpeg jpf jpg jpx jxl jxr mpo pbm pcx pfm pgm png pnm ppm psb psd qoi ras
    rgb rgba sgi svg svgz tga tif tiff wdp webp wmf xbm xcf xpm
    3fr arw cr2 cr3 crw dng erf kdc mrw nef nrw orf pef raf raw rw2 sr2 srf srw x3f
    3gp asf avi flv hevc m2ts m4v mkv mov mp4 mpeg mpg mts ogv webm wmv
"""
_IMAGE_LIKE = frozenset(f".{kind}" for kind in _KINDS.split())
_IN_ORDER = attrgetter("parts")  # that of Windows' own paths is another one: it ignores case
HIDDEN, OTHER_SUFFIX, NO_IMAGE, NOT_PLAIN, LINKED, BROKEN, DEEPER, EMPTY = (
    "hidden or of a service",
    "image-like with a suffix that is not read",
    "without the suffix of an image",
    "no plain file",
    "a link to what is read already",
    "a link to nothing",
    "a folder among the images",
    "an identity without an image that is read",
)


def find_files(
    folder: str | Path, suffixes: Collection[str], left_out: Tally, *, deep: bool = True
) -> list[Path]:
    """The files with one of the suffixes (in lower case) in a folder and, if `deep`, below it, sorted.

    Each real folder and file once, however many links lead there. Names that begin with a dot and folders of
    services are never read. They, image-like files of another suffix, what is no plain file, links to what is
    read already or to nothing, folders if not `deep` and, where no file is found, all others are counted. A
    link to nothing with one of the suffixes counts as a file. Raises OSError for a folder that cannot be
    listed.
    """
    files: list[Path] = []
    links: list[Path] = []
    others: list[Path] = []
    real_files: set[str] = set()
    for place, real, entries in _walk(Path(folder), left_out, deep):
        for entry in entries:
            path = place / entry.name
            reason = _reason_to_leave_out(entry, path, suffixes)
            if reason == NO_IMAGE:
                others.append(path)
            elif reason:
                left_out.add(reason, str(path))
            elif entry.is_symlink():
                links.append(path)
            else:
                files.append(path)
                real_files.add(os.path.join(real, entry.name))
    for path in sorted(links, key=_IN_ORDER):
        target = os.path.realpath(path)
        if target in real_files:
            left_out.add(LINKED, str(path))
        else:
            files.append(path)
            real_files.add(target)
    for path in () if files else others:  # images without a suffix, perhaps
        left_out.add(NO_IMAGE, str(path))
    return sorted(files, key=_IN_ORDER)


def find_folders(folder: str | Path) -> list[Path]:
    """A folder and all below it that `find_files` looks into, sorted. Raises as it does."""
    return sorted((place for place, *_ in _walk(Path(folder), Tally(), deep=True)), key=_IN_ORDER)


def has_suffix(name: str, suffixes: Collection[str]) -> bool:
    """Whether a file name ends in one of the suffixes, in upper or lower case."""
    return os.path.splitext(name)[1].lower() in suffixes


def _reason_to_leave_out(entry: os.DirEntry[str], path: Path, suffixes: Collection[str]) -> str:
    if has_suffix(entry.name, suffixes):
        is_plain = entry.is_file(follow_symlinks=False) or os.path.isfile(path) or not os.path.exists(path)
        return "" if is_plain else NOT_PLAIN
    if has_suffix(entry.name.rstrip(". "), _IMAGE_LIKE):
        return OTHER_SUFFIX
    is_lost = entry.is_symlink() and not os.path.exists(path)  # it was a folder, perhaps
    return BROKEN if is_lost else NO_IMAGE


def _walk(folder: Path, left_out: Tally, deep: bool) -> Iterator[tuple[Path, str, list[os.DirEntry[str]]]]:
    """Each folder with its real path and its entries that are no folders; real folders before linked ones."""
    entered: set[str] = set()
    folders = [(folder, os.path.realpath(folder))]
    links: list[Path] = []
    while folders or links:
        if folders:
            place, real = folders.pop()
        else:
            place = heapq.heappop(links)
            real = os.path.realpath(place)
        if real in entered:
            left_out.add(LINKED, str(place))
            continue
        entered.add(real)
        rest = []
        for entry in _entries(place):
            path = place / entry.name
            is_folder = os.path.isdir(path) if entry.is_symlink() else entry.is_dir()
            if entry.name.startswith(".") or (is_folder and entry.name.lower() in _SERVICE_FOLDERS):
                if is_folder or has_suffix(entry.name, _IMAGE_LIKE):
                    left_out.add(HIDDEN, str(path))
            elif not is_folder:
                rest.append(entry)
            elif not deep:
                left_out.add(DEEPER, str(path))
            elif entry.is_symlink():
                heapq.heappush(links, path)
            else:
                folders.append((path, os.path.join(real, entry.name)))
        yield place, real, rest


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise OSError(f"{folder} cannot be listed: {error.strerror}") from error
