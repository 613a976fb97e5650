"""A gallery of people: add pictures, and ask who is on another one.

python tools/gallery.py create logs/gallery.db --weight logs/run/ViT-B-16_60.pth
python tools/gallery.py add logs/gallery.db people --weight logs/run/ViT-B-16_60.pth
python tools/gallery.py search logs/gallery.db --image who.jpg --weight logs/run/ViT-B-16_60.pth

Each command has --help. Pictures of people are personal data: see the end of docs/gallery.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line
from tools.gallery_commands import adding, changing, removing, searching, showing
from tools.gallery_commands.options import command_parser, take_address
from utils.logger import setup_logger
from utils.package import require_extra

COMMANDS = {
    "create": changing.CREATE,
    "add": adding.COMMAND,
    "search": searching.COMMAND,
    "list": showing.LIST,
    "stats": showing.STATS,
    "rename": changing.RENAME,
    "remove": removing.COMMAND,
    "export": changing.EXPORT,
    "import": changing.IMPORT,
    "index": changing.INDEX,
    "compact": changing.COMPACT,
}


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option, file or gallery."""
    argv = list(sys.argv[1:] if argv is None else argv)
    lines = "\n".join(f"  {name:8}  {command.help}" for name, command in COMMANDS.items())
    parser = Parser(
        description=__doc__, epilog=f"commands:\n{lines}", usage="%(prog)s COMMAND ADDRESS [OPTION]..."
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv[:1]).command
    own = command_parser(f"{parser.prog} {chosen}", COMMANDS[chosen])
    # Words may stand before and behind options.
    args = own.parse_intermixed_args(argv[1:])
    take_address(own, args)
    setup_logger(None, "")
    with end_in_one_line():
        require_extra("index")
        COMMANDS[chosen].run(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
