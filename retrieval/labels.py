"""How identities and cameras are written where they come from: people know these texts, not the numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from utils.labels import NO_CAMERA, NO_PID
from utils.text import printable
from utils.untrusted.forms import Form


def _escaped(value: object) -> object:
    return printable(value) if isinstance(value, str) else value


_Text = Annotated[str, BeforeValidator(_escaped)]


class LabelNames(Form):
    """Texts of identities by pid and of cameras by camid, unprintable characters escaped.

    A number without a text is shown itself.
    """

    identities: dict[int, _Text] = Field(default_factory=dict)
    cameras: dict[int, _Text] = Field(default_factory=dict)

    def identity(self, pid: int) -> str:
        """The identity as written, '?' where it is unknown."""
        return "?" if pid == NO_PID else self.identities.get(pid, str(pid))

    def camera(self, camid: int) -> str:
        """The camera as written, '?' where it is unknown."""
        return "?" if camid == NO_CAMERA else self.cameras.get(camid, str(camid))

    def joined(self, other: LabelNames) -> LabelNames:
        """The texts of both. Raises ValueError for a number that has two."""
        for what in ("identities", "cameras"):
            mine, theirs = getattr(self, what), getattr(other, what)
            for number in mine.keys() & theirs.keys():
                if mine[number] != theirs[number]:
                    raise ValueError(
                        f"{what}: number {number} is {mine[number]!r} in one and {theirs[number]!r} in the "
                        "other; allowed: features of one data set"
                    )
        return self | other

    def __or__(self, other: LabelNames) -> LabelNames:
        """The texts of both; of two for a number the first."""
        return LabelNames(
            identities={**other.identities, **self.identities}, cameras={**other.cameras, **self.cameras}
        )
