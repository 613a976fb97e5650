"""The command line that all programs share, and the one line in which a wrong setting or file ends them."""

import argparse
import functools
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from yacs.config import CfgNode

from config.keys import Keys, table_of
from config.load import load_config
from config.shortage import shortage
from utils.launch import launched_processes
from utils.logger import note_error, start_terminal
from utils.package import MissingExtra, find_shipped
from utils.text import Lines, filled, one_line, shortened

_EPILOG = """\
examples:
{examples}
keys used most (values are Python literals or text; put lists in quotes):
{keys}

All keys: docs/keys.md
"""
_FAILED, _INTERRUPTED = 2, 130
_LONGEST = 400  # characters of an error's line, in which the path may be long and what is allowed stands last
_RESUMES = "--resume takes no file: it continues last.pt in OUTPUT_DIR"
_TRACE = re.compile(r"^(?:Original )?Traceback \(most recent call last\):\n(?: .*\n)*", re.MULTILINE)


class Parser(argparse.ArgumentParser):
    """The parser of a program: its docstring is the help, options have one name, any text can be shown."""

    def __init__(self, **options: Any) -> None:
        start_terminal()
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)

    @functools.cached_property
    def config_files(self) -> Any:
        """The group of options that name a configuration file, of which one is given at most."""
        return self.add_mutually_exclusive_group()  # argparse shows no usage with an empty one

    def error(self, message: str) -> NoReturn:
        """End the program with the usage and status 2."""
        hint = f"; {_RESUMES}" if message.startswith("argument --resume:") else ""
        super().error(one_line(message + hint, _LONGEST))


def one_or_more(text: str) -> int:
    """The `type` of options that are whole numbers from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: 1 or more")
    return int(text)


def say(form: str, *args: object) -> None:
    """Print `form % args` escaped as the log is: only the form and arguments `Lines` begin a line."""
    print(filled(form, args), flush=True)


def parse_arguments(
    argv: Sequence[str] | None,
    base: CfgNode,
    *,
    description: str | None,
    default_config: str,
    add_options: Callable[[Parser], None] = lambda parser: None,
) -> argparse.Namespace:
    """Namespace(config_file, local_rank, traceback, opts) of a program; None reads sys.argv.

    `base` has the keys that the help lists, `add_options` adds a program's own options. Ends the program with
    status 2 and the usage when an option is unknown or stands behind the pairs.
    """
    table = table_of(base)
    keys = table.keys
    parser = Parser(
        usage="%(prog)s [OPTION]... [KEY VALUE]...",
        description=description,
        epilog=_EPILOG.format(examples=table.examples, keys=_key_lines(keys)),
    )
    add_options(parser)
    parser.config_files.add_argument(
        "--config_file",
        default=default_config,
        metavar="FILE",
        help=f"YAML file; '' = defaults only (default: {default_config})",
    )
    parser.add_argument(
        "--local_rank",
        "--local-rank",
        type=int,
        default=0,
        metavar="N",
        help="accepted and ignored, because launchers pass it",
    )
    parser.add_argument(
        "--traceback", action="store_true", help="show where in the code a wrong setting or file was noticed"
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="settings that override the file's, after all options",
    )
    args = parser.parse_args(argv)
    args.config_file = args.config_file and str(find_shipped(args.config_file))
    first = args.opts[0] if args.opts else ""
    if getattr(args, "resume", False) and first not in keys and (len(args.opts) % 2 or Path(first).is_file()):
        parser.error(f"{_RESUMES}; it is followed by {first}")
    late = [word for word in args.opts if word.startswith("--")]
    if late:
        parser.error(f"{late[0]} stands behind the KEY VALUE pairs; options go before them")
    return args


def run_program(
    main: Callable[[CfgNode, argparse.Namespace], None],
    base: CfgNode,
    *,
    description: str | None,
    default_config: str,
    argv: Sequence[str] | None = None,
    add_options: Callable[[Parser], None] = lambda parser: None,
) -> int:
    """Load the configuration of the command line into a copy of `base`, call `main(cfg, args)`, return 0.

    Ends as `end_in_one_line` does.
    """
    args = parse_arguments(
        argv, base, description=description, default_config=default_config, add_options=add_options
    )
    with end_in_one_line(show_traceback=args.traceback):
        main(load_config(base, args.config_file, args.opts), args)
    return 0


def add_resume(parser: Parser) -> None:
    """Add --resume, the option of the training programs."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue from OUTPUT_DIR/last.pt; without that file, start at the beginning",
    )


def add_simplified(parser: Parser) -> None:
    """Add --simplified, which the published programs of TBPS-CLIP have, too."""
    file = "configs/tbps/vit_tbps_simplified.yml"
    parser.config_files.add_argument(
        "--simplified",
        action="store_const",
        dest="config_file",
        const=file,
        default=argparse.SUPPRESS,
        help=f"the same as --config_file {file}",
    )


def _key_lines(keys: Keys) -> str:
    """The common keys, each with its comment in a second column."""
    indent = " " * 32
    return "\n".join(
        textwrap.fill(key.comment, 110, initial_indent=f"  {name:<28}  ", subsequent_indent=indent)
        for name, key in keys.items()
        if key.common
    )


@contextmanager
def end_in_one_line(*, show_traceback: bool = False) -> Iterator[None]:
    """Turns an error about a setting or file into one line on stderr and SystemExit.

    ValueError, KeyError, OSError, FloatingPointError, a missing extra and a RuntimeError of a `shortage` give
    status 2, Ctrl-C status 130. Any other exception is a bug and passes through.
    """
    try:
        yield
    except (ValueError, KeyError, OSError, FloatingPointError, RuntimeError, MissingExtra) as error:
        line = _one_line(error)
        advice = shortage(line)
        if isinstance(error, RuntimeError) and not advice:
            raise
        line = f"{shortened(line, _LONGEST // 2).rstrip('.')}; {advice}" if advice else line
        if show_traceback:
            print(filled("%s", (Lines(traceback.format_exc()),)), end="", file=sys.stderr)
        who = f"process {os.environ.get('RANK')}: " if launched_processes() > 1 else ""
        print(f"error: {who}{line}", file=sys.stderr)
        note_error(line)
        sys.exit(_FAILED)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(_INTERRUPTED)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, KeyError) and len(error.args) == 1:
        text = str(error.args[0])  # str() of a KeyError puts quotes around its message
    else:
        text = str(error)
    if "Original Traceback" in text:  # of a process that loads images; the error follows its last frame
        text = _TRACE.split(text)[-1].partition(": ")[2]
    return one_line(text, _LONGEST) or type(error).__name__
