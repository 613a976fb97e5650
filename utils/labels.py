"""The labels that mean "not known", and labels as text, shared by data sets and retrieval."""

from typing import NamedTuple

NO_PID = -1
NO_CAMERA = -1


class LabelTexts(NamedTuple):
    """Identity and camera as the data set writes them, which people are shown; '' where there is no text."""

    identity: str = ""
    camera: str = ""


NO_TEXTS = LabelTexts()
