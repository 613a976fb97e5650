"""The page of a gallery in a browser: ask who somebody is, follow somebody over cameras, add pictures.

gradio is imported by what needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.finder import Finder
from utils.package import require_extra
from utils.untrusted.plain import MEBIBYTE

if TYPE_CHECKING:
    import gradio
    from fastapi import FastAPI

__all__ = ["make_page", "mount_page"]


def make_page(finder: Finder, *, max_bytes: int = 10 * MEBIBYTE) -> gradio.Blocks:
    """The page of a gallery, where a picture has at most `max_bytes`.

    Pictures stand in the page itself, made small, and one that is asked about comes with the question: no
    picture is a file that a browser could fetch, and none is left on the disk. Raises MissingExtra without
    gradio.
    """
    require_extra("web")
    from service.page.deeds import Deeds
    from service.page.wiring import build_page

    return build_page(Deeds(finder, max_bytes))


def mount_page(app: FastAPI, finder: Finder, *, max_bytes: int = 10 * MEBIBYTE) -> None:
    """Mount the page at '/' of a service, behind the routes that it has.

    A picture has at most `max_bytes`, and its request a third more. Who may see the page is up to the
    service. Raises MissingExtra without gradio.
    """
    require_extra("web")
    from service.page.deeds import Deeds
    from service.page.mount import mount

    mount(app, Deeds(finder, max_bytes))
