"""gallery.py in a process of its own, with a portion of one batch, to be killed."""

import multiprocessing
import os
from pathlib import Path

from tools import gallery
from tools.gallery_commands import adding


def main(folder: str, words: list[str]) -> None:
    """Run a command in a folder and a group of processes of its own; `out` there gets what it prints."""
    multiprocessing.current_process()._config["daemon"] = False  # it starts processes that load images
    os.setsid()
    os.chdir(folder)
    for number in (1, 2):
        os.dup2(os.open("out", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    Path("started").touch()
    adding._PORTION = 0
    gallery.main(words)
