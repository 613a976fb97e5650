"""Serve a gallery over HTTP: an API for other programs, and a page for people.

python tools/serve.py --gallery logs/gallery.db --weight logs/run/ViT-B-16_60.pth --threshold 0.6

Only this machine reaches it, unless --host says otherwise. With CLIPREID_API_KEY in the environment, every
request must bring that key. Ctrl-C or SIGTERM ends it, after the answers to what has been asked.
"""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, one_or_more, say
from tools.gallery_commands.options import add_model_options, load_models, own_pictures
from utils.logger import setup_logger
from utils.package import require_extra
from utils.signals import STOPPING
from utils.text import printable
from utils.untrusted.plain import MEBIBYTE

if TYPE_CHECKING:
    from fastapi import FastAPI

    from retrieval import Gallery

KEY = "CLIPREID_API_KEY"
_SHORTEST_KEY = 16
# Windows' SO_REUSEADDR would let two servers listen at one port.
_OWN_PORT = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
_GRACE = 10  # seconds for answers after a signal; an open page holds its connection longer
_logger = logging.getLogger("transreid.tools")


def serve(args: argparse.Namespace) -> None:
    """Serve until a signal comes. Raises ValueError or OSError for options that cannot be used."""
    require_extra("index")
    require_extra("serve")
    has_page = importlib.util.find_spec("gradio") is not None if args.page is None else args.page
    if has_page:
        require_extra("web")
    from retrieval import Gallery
    from service import Finder, Settings, read_threshold
    from service.api import Limits, make_app

    limits = Limits(
        max_bytes=args.max_bytes,
        queue=args.queue,
        memory=max(256 * MEBIBYTE, 2 * args.max_bytes),
        rate=args.rate,
    )
    key = _read_key()
    if args.far is not None and args.threshold is None:
        raise ValueError(f"--far {args.far:g} is given without --threshold; allowed: with a threshold.json")
    threshold = None if args.threshold is None else read_threshold(args.threshold, args.far)
    text_threshold = None if args.text_threshold is None else read_threshold(args.text_threshold)
    settings = Settings(text_threshold=text_threshold, batch=args.batch, pixels=args.max_pixels)
    # Before models are loaded: an error comes at once.
    with listening(args.host, args.port) as listener:
        _warn_if_open(args.host, key)
        models = load_models(args, args.device)
        kinds = {space: model.space_model for space, model in models.items()}
        with Gallery.open(args.gallery, kinds) as gallery:
            _require_weights(gallery, args)
            pictures = Path(args.pictures) if args.pictures else own_pictures(args.gallery)
            finder = Finder(gallery, models.get("reid"), models.get("text"), pictures, threshold, settings)
            app = make_app(finder, limits, key=key, hosts=[args.host, *args.allow_host])
            if has_page:
                from service.page import mount_page

                mount_page(app, finder, max_bytes=args.max_bytes)
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            what = "page, API (/docs)" if has_page else "API (/docs)"
            say("serving %s: %s at http://%s:%d", args.gallery, what, shown, port)
            _run(app, listener)
    say("stopped")


def _run(app: FastAPI, listener: socket.socket) -> None:
    """Answer until SIGTERM or SIGINT."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # anybody may write them
        timeout_graceful_shutdown=_GRACE,
    )
    # uvicorn raises the signals that it has heeded again at its end, when they do nothing more.
    before = {number: signal.signal(number, lambda *_: None) for number in STOPPING}
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _read_key() -> str:
    key = os.environ.get(KEY, "")
    if key and not (len(key) >= _SHORTEST_KEY and key.isascii() and key.isprintable() and " " not in key):
        raise ValueError(
            f"{KEY} has {len(key)} characters; allowed: {_SHORTEST_KEY} or more, ASCII without spaces, as "
            "python -c 'import secrets; print(secrets.token_urlsafe())' gives them"
        )
    return key


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that takes connections. Raises OSError that names host and port."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise OSError(f"--host {printable(host)}: {getattr(error, 'strerror', None) or error}") from error
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, _OWN_PORT, 1)
            listener.bind(address)
            listener.listen(socket.SOMAXCONN)
        except OSError as error:
            raise OSError(f"--host {printable(host)} --port {port}: {error.strerror}") from error
        yield listener


def _warn_if_open(host: str, key: str) -> None:
    address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
    if not key and not ipaddress.ip_address(str(address).partition("%")[0]).is_loopback:
        _logger.warning(
            "--host %s without %s: whoever reaches this machine can search, add and remove people", host, KEY
        )


def _require_weights(gallery: Gallery, args: argparse.Namespace) -> None:
    """Raise ValueError where pictures cannot be compared as the gallery was made to."""
    if "reid" in gallery.spaces and args.weight is None:
        raise ValueError(
            f"--weight is missing; needed: {gallery.models['reid']} of {printable(args.gallery)}"
        )
    if "text" in gallery.spaces and args.text_weight is None:
        _logger.warning(
            "without --text-weight no sentence is searched, and pictures that are added are not found by one"
        )


def port_number(text: str) -> int:
    """The `type` of options that are a port. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: 0 to 65535, 0 for any that is free")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or file."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add(
        "--gallery",
        required=True,
        metavar="ADDRESS",
        help="folder.db, or http://host:19530 of a Milvus server",
    )
    add_model_options(parser)
    add("--threshold", metavar="WHAT", help="largest distance of somebody: a number, or a threshold.json")
    add("--far", type=float, metavar="RATE", help="which rate's threshold of that file (default: the lowest)")
    add("--text-threshold", metavar="WHAT", help="the same for sentences")
    add(
        "--pictures",
        metavar="DIR",
        help="folder for pictures that are added (default: NAME.pictures next to NAME.db; with a server of "
        "Milvus none, so that no picture can be added)",
    )
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen at (default: %(default)s)")
    add(
        "--port",
        type=port_number,
        default=8000,
        metavar="N",
        help="port to listen at, 0 for any (default: %(default)s)",
    )
    add(
        "--allow-host",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names by which browsers and programs call this server, besides localhost and IP addresses",
    )
    add("--device", default="cuda", metavar="KIND", help="cuda (the CPU where there is none) or cpu")
    add(
        "--batch",
        type=one_or_more,
        default=32,
        metavar="N",
        help="pictures in one pass (default: %(default)s)",
    )
    add(
        "--queue",
        type=one_or_more,
        default=256,
        metavar="N",
        help="requests that are answered or wait; more get status 429 (default: %(default)s)",
    )
    add(
        "--rate",
        type=float,
        default=50.0,
        metavar="N",
        help="requests per second of one client, 0 for no limit; more get status 429 (default: %(default)g)",
    )
    add(
        "--max-bytes",
        type=one_or_more,
        default=10 * MEBIBYTE,
        metavar="N",
        help="bytes of one request (default: %(default)s)",
    )
    add(
        "--max-pixels",
        type=one_or_more,
        default=25_000_000,
        metavar="N",
        help="width times height of a picture (default: %(default)s)",
    )
    add(
        "--page",
        action=argparse.BooleanOptionalAction,
        help="with or without the page (default: with, where the packages of [web] are installed)",
    )
    args = parser.parse_args(argv)
    setup_logger(None, "")
    with end_in_one_line():
        serve(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
