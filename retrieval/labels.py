"""Texts that people know instead of numbers and keys: of identities, of cameras, of items without picture."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from utils.labels import NO_CAMERA, NO_PID
from utils.text import printable, quoted, shortened
from utils.untrusted.forms import Form

_SHOWN = 100  # characters of a key in a message


def _escaped(value: object) -> object:
    return printable(value) if isinstance(value, str) else value


_Text = Annotated[str, BeforeValidator(_escaped)]


class LabelNames(Form):
    """Texts of identities by pid, of cameras by camid and of items by key, unprintable characters escaped.

    A number without a text is shown itself. `items` has those that are a text, not a picture in a file.
    """

    identities: dict[int, _Text] = Field(default_factory=dict)
    cameras: dict[int, _Text] = Field(default_factory=dict)
    items: dict[_Text, _Text] = Field(default_factory=dict)

    def identity(self, pid: int) -> str:
        """The identity as written, '?' where it is unknown."""
        return "?" if pid == NO_PID else self.identities.get(pid, str(pid))

    def camera(self, camid: int) -> str:
        """The camera as written, '?' where it is unknown."""
        return "?" if camid == NO_CAMERA else self.cameras.get(camid, str(camid))

    def text(self, key: str) -> str:
        """The text of the item with this key, '' where the item is a picture."""
        return self.items.get(printable(key), "")

    def joined(self, other: LabelNames) -> LabelNames:
        """The texts of both. Raises ValueError for a number or key that has two."""
        for what, noun in (("identities", "number"), ("cameras", "number"), ("items", "key")):
            mine, theirs = getattr(self, what), getattr(other, what)
            for each in mine.keys() & theirs.keys():
                if mine[each] != theirs[each]:
                    raise ValueError(
                        f"{what}: {noun} {shortened(each, _SHOWN)} is {quoted(mine[each])} in one and "
                        f"{quoted(theirs[each])} in the other; allowed: features of one data set"
                    )
        return self | other

    def __or__(self, other: LabelNames) -> LabelNames:
        """The texts of both; of two for a number or key the first."""
        return LabelNames(
            **{what: {**getattr(other, what), **getattr(self, what)} for what in LabelNames.model_fields}
        )
