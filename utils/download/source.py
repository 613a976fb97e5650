"""Where a file of others can be had, and what is known about it."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode


@dataclass(frozen=True)
class Source:
    """An archive with a folder, or a file, that is fetched from an address; or a page where one asks for it.

    Attributes:
        target: path below the root; of the folder that an archive becomes, or of a file.
        drive_id, resource_key: of a public file on Google Drive; '' for none.
        url: address of the file; by default that of `drive_id`.
        marker: what must lie in the folder, which tells it from others of the archive. '': the archive's
            content is the folder.
        is_file: the file is kept as it is, instead of an archive.
        size: bytes on the disk, 0 where it is not known.
        md5: of the file that is fetched, '' where it is not known.
        page: where people get it, in a browser.
        terms: why it is not fetched here, such as a form that is to be signed. '': it is.
        also: other paths below the root that count as its target.
    """

    target: str
    drive_id: str = ""
    resource_key: str = ""
    url: str = ""
    marker: str = ""
    is_file: bool = False
    size: int = 0
    md5: str = ""
    page: str = ""
    terms: str = ""
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.drive_id:
            key = {"resourcekey": self.resource_key} if self.resource_key else {}
            words = urlencode({"id": self.drive_id, "export": "download"} | key)
            object.__setattr__(self, "url", f"https://drive.google.com/uc?{words}")
            view = f"https://drive.google.com/file/d/{self.drive_id}/view"
            object.__setattr__(self, "page", self.page or f"{view}?{urlencode(key)}".rstrip("?"))

    def find(self, root: Path) -> Path | None:
        """What is there of the target or its other paths: a file, or a folder that is not empty."""
        for name in (self.target, *self.also):
            path = root / name
            if path.is_file() if self.is_file else path.is_dir() and any(path.iterdir()):
                return path
        return None

    def by_hand(self, root: Path) -> str:
        """What a person does instead, as the end of a message."""
        path = root / self.target
        how = f"save it as {path}" if self.is_file else f"unpack it, so that its folder is {path}"
        return f"by hand: {self.page or self.url}, {how}"
