"""The page as a part of a service: its looks, and what of gradio is shut."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import gradio
import gradio.themes
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.page.deeds import Deeds
from service.page.wiring import build_page

_logger = logging.getLogger("transreid.service")
# Fonts of the machine that shows the page: nothing is fetched, and all scripts have letters.
_FONTS = (
    *("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "Noto Sans CJK SC"),
    *("PingFang SC", "Microsoft YaHei", "Hiragino Sans", "WenQuanYi Zen Hei", "sans-serif"),
)
_MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "monospace")
# Dark enough to be read on white, light enough on black: 4.5 to 1.
_COLOURS = {
    "body_text_color_subdued": "*neutral_500",
    "body_text_color_subdued_dark": "*neutral_400",
    "block_info_text_color": "*neutral_500",
    "block_info_text_color_dark": "*neutral_400",
    "color_accent": "*primary_700",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_dark": "*primary_700",
}
# The part of gradio's interface that this page uses: no files that go in or out, no other server's, no tools.
_USED = r"info|run/predict|startup-events"
_SHUT = re.compile(rf".*/(gradio_api/(?!({_USED})/?$)|monitoring|login|logout|svelte/)")
# Gradio makes its scripts and styles as it goes. Whatever a script became, it would reach nobody.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)


def mount(app: FastAPI, deeds: Deeds) -> None:
    """Mount the page at '/', behind all routes that the app has."""
    theme = gradio.themes.Base(
        primary_hue="teal", neutral_hue="slate", radius_size="lg", font=list(_FONTS), font_mono=list(_MONO)
    ).set(**_COLOURS)
    gradio.mount_gradio_app(
        app,
        build_page(deeds),
        "/",
        footer_links=[],
        run_history=False,  # the browser would keep what was asked
        allowed_paths=[],
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme,
        css_paths=[Path(__file__).parent / "page.css"],
    )
    route = next(route for route in reversed(app.routes) if isinstance(route, Mount))
    route.app = _Guard(route.app)


class _Guard:
    """ASGI middleware around gradio: what the page does not use is not there, and nothing is loaded."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers.setdefault("Content-Security-Policy", _POLICY)
                if headers.get("content-type", "").startswith(("text/html", "application/json")):
                    headers["Cache-Control"] = "no-store"  # it shows people
                if message["status"] == 500:  # gradio fails where a request is not one of the page's
                    message["status"] = 400
            await send(message)

        if scope["type"] == "http" and _SHUT.match(scope["path"]):
            await PlainTextResponse("this is not here", 404)(scope, receive, answer)
            return
        try:
            await self.app(scope, receive, answer)
        except (KeyError, OSError, TypeError, ValueError, AttributeError) as error:  # it has been answered
            _logger.warning("page: %s %s: %r", scope["method"], scope["path"], error)
