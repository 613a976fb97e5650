"""The command line, its help, and how programs end."""

import errno
import os
import re
import sys
from types import SimpleNamespace

import pytest

from config import TABLES, cfg, cfg_base, cfg_tbps
from config.arguments import Parser, add_resume, add_simplified, end_in_one_line, parse_arguments, run_program
from utils.logger import setup_logger

DEFAULT = "configs/person/vit_base.yml"
_TRACE = "Traceback (most recent call last):\n  File x"  # as an image loading process reports an error


def parse(*argv):
    return parse_arguments(argv, cfg, description="Train something.", default_config=DEFAULT)


def run(main, *argv, base=cfg):
    return run_program(main, base, description="Train.", default_config="", argv=argv)


def ends(capsys, main, *argv):
    """Exit status and stderr of a program that does not succeed."""
    with pytest.raises(SystemExit) as caught:
        run(main, *argv)
    return caught.value.code, capsys.readouterr().err


def raising(error):
    def main(config, args):
        raise error

    return main


def test_defaults():
    args = parse()
    assert (args.config_file, args.opts, args.local_rank, args.traceback) == (DEFAULT, [], 0, False)


def test_options_then_pairs():
    args = parse("--config_file", "a.yml", "--local_rank", "3", "MODEL.STRIDE_SIZE", "[12, 12]", "A", "-1")
    assert (args.config_file, args.local_rank) == ("a.yml", 3)
    assert args.opts == ["MODEL.STRIDE_SIZE", "[12, 12]", "A", "-1"]
    assert parse("--local-rank=2").local_rank == 2
    assert parse("--config_file=", "A", "1").config_file == ""


def test_none_reads_the_command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--config_file", "b.yml", "OUTPUT_DIR", "x"])
    args = parse_arguments(None, cfg, description="", default_config=DEFAULT)
    assert (args.config_file, args.opts) == ("b.yml", ["OUTPUT_DIR", "x"])


def test_tools_without_a_configuration_have_a_usage(capsys):
    parser = Parser()
    parser.add_argument("--out", required=True)
    with pytest.raises(SystemExit) as end:
        parser.parse_args([])
    assert end.value.code == 2 and capsys.readouterr().err.startswith("usage: ")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("OUTPUT_DIR", "x", "--config_file", "a.yml"), "--config_file stands behind the KEY VALUE pairs"),
        (("--no_such", "1"), "unrecognized arguments"),
        (("--local_rank", "one"), "--local_rank"),
    ],
)
def test_wrong_options_end_with_status_2(capsys, argv, told):
    with pytest.raises(SystemExit) as caught:
        parse(*argv)
    assert caught.value.code == 2 and told in capsys.readouterr().err


def test_help_is_useful(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert "Train something." in text and f"(default: {DEFAULT})" in " ".join(text.split())
    assert "MODEL.SIE_CAMERA True MODEL.SIE_COE 1.0 MODEL.STRIDE_SIZE '[12, 12]'" in text
    for program in ("train.py", "test.py", "train_clipreid.py", "test_clipreid.py"):
        assert f"python {program} --config_file configs/" in text
    assert "[KEY VALUE]..." in text and "accepted and ignored" in text and "docs/keys.md" in text
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.programs[0])
def test_help_names_programs_files_and_keys_that_exist(capsys, repository, table):
    with pytest.raises(SystemExit):
        parse_arguments(["--help"], table.tree(), description="", default_config=DEFAULT)
    text = capsys.readouterr().out.partition("examples:")[2]
    words = text.replace(",", " ").split()
    groups = ("MODEL.", "INPUT.", "DATASETS.", "DATALOADER.", "SOLVER.", "TEST.")
    keys = {word for word in words if word.startswith(groups) and "…" not in word}
    assert len(keys) >= 12 and keys <= {name for each in TABLES for name in each.keys}
    files = [word for word in words if word.endswith(".yml")]
    assert files and all((repository / file).is_file() for file in files)
    programs = {word for word in words if word.endswith(".py")}
    assert programs <= {program for each in TABLES for program in each.programs}
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.programs[0])
def test_examples_are_of_the_program_or_of_its_kind(table):
    """Those of methods on images are common; text search has its own, whose pairs it takes."""
    programs = set(re.findall(r"\w+\.py", table.examples))
    text_search = {"train_tbps.py", "test_tbps.py"}
    assert set(table.programs) <= programs or not programs & text_search
    assert programs <= text_search or not programs & text_search


def simplified(*argv):
    options = {"description": "", "default_config": DEFAULT, "add_options": add_simplified}
    return parse_arguments(argv, cfg_tbps, **options)


def test_simplified_is_a_configuration_file(capsys, repository):
    assert simplified().config_file == DEFAULT
    args = simplified("--simplified", "SOLVER.SEED", "3")
    assert args.config_file == "configs/tbps/vit_tbps_simplified.yml" and args.opts == ["SOLVER.SEED", "3"]
    assert (repository / args.config_file).is_file() and "simplified" not in vars(args)
    for words in (["--simplified", "--config_file", "a.yml"], ["--config_file", "a.yml", "--simplified"]):
        with pytest.raises(SystemExit) as caught:
            simplified(*words)
        told = capsys.readouterr().err
        assert caught.value.code == 2
        assert "--simplified" in told and "not allowed with argument" in told and "--config_file" in told
    with pytest.raises(SystemExit):
        parse("--simplified")
    assert "unrecognized arguments" in capsys.readouterr().err


def test_main_gets_the_loaded_configuration():
    seen = SimpleNamespace()

    def main(config, args):
        seen.config, seen.args = config, args

    assert run(main, "SOLVER.BASE_LR", "1", base=cfg_base) == 0
    assert seen.config.SOLVER.BASE_LR == 1.0 and seen.config.is_frozen()
    assert seen.args.opts == ["SOLVER.BASE_LR", "1"] and cfg_base.SOLVER.BASE_LR == 3e-4


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("MODEL.NAME is 'x';\n  allowed: y"), "error: MODEL.NAME is 'x'; allowed: y\n"),
        (KeyError("no table row 'a'"), "error: no table row 'a'\n"),
        (FileNotFoundError("data set at /x"), "error: data set at /x\n"),
        (PermissionError(13, "Permission denied", "/root/x"), "error: /root/x: Permission denied\n"),
        (ValueError(), "error: ValueError\n"),
        (FloatingPointError("stage1, epoch 1,\n bad"), "error: stage1, epoch 1, bad\n"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            "error: DataLoader worker (pid 7) is killed by signal: Killed; most often memory is full: lower "
            "DATALOADER.NUM_WORKERS (a tool's --workers); 0 needs none\n",
        ),
        (
            OSError("a.pth cannot be written: No space left"),
            "error: a.pth cannot be written: No space left\n",
        ),
        (OSError(2, "Gone", "a\x1b[2J\nmAP: 9"), "error: a\\x1b[2J\\nmAP: 9: Gone\n"),
        (ValueError("a\udcff.jpg: bad\n\tkey"), "error: a\\udcff.jpg: bad key\n"),
        (
            ValueError(
                f"Caught.\nOriginal {_TRACE}\nOSError: x\n\nDuring this:\n\n{_TRACE}\n"
                "ValueError: a\nb.jpg: bad\n"
            ),
            "error: a\\nb.jpg: bad\n",
        ),
        (
            ValueError(f"Caught by process 0.\nOriginal {_TRACE}\nValueError: a.jpg: bad\n"),
            "error: a.jpg: bad\n",
        ),
    ],
)
def test_expected_errors_are_one_line_and_status_2(capsys, error, line):
    assert ends(capsys, raising(error)) == (2, line)


FILES = ["Too many open files", "ulimit -n", "NUM_WORKERS", "--workers"]
SHARED = ["/dev/shm", "--shm-size", "--ipc=host", "NUM_WORKERS"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), FILES),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/data/a.jpg"), ["/data/a.jpg", *FILES]),
        (ValueError("/data/a.jpg cannot be read: Too many open files"), ["/data/a.jpg", *FILES]),
        (RuntimeError("received 0 items of ancdata"), ["0 items of ancdata", *FILES[1:]]),
        (
            RuntimeError("Too many open files. Communication with the workers is no longer possible."),
            FILES,
        ),
        (
            RuntimeError(
                "unable to open shared memory object </torch_28350_4> in read-write mode: "
                "Too many open files (24)"
            ),
            FILES,
        ),
        (
            RuntimeError(
                f"Caught RuntimeError in DataLoader worker process 0.\nOriginal {_TRACE}\nRuntimeError: "
                "unable to allocate shared memory(shm) for file </torch_9_0>: No space left on device (28)\n"
            ),
            ["No space left on device", *SHARED],
        ),
        (RuntimeError("unable to write to file </torch_9_0>: No space left on device (28)"), SHARED),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that"),
            ["pid 7", *SHARED],
        ),
        (RuntimeError("Pin memory thread exited unexpectedly"), ["Pin memory thread", "NUM_WORKERS"]),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), ["7, 8", "NUM_WORKERS"]),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ["No space left on device", *SHARED]),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), ["Cannot allocate memory", "NUM_WORKERS"]),
    ],
)
def test_what_the_system_has_run_out_of_is_one_line_with_what_to_do(capsys, error, told):
    status, line = ends(capsys, raising(error))
    assert status == 2 and line.startswith("error: ") and line.count("\n") == 1 and len(line) < 600
    for words in told:
        assert words in line


def test_a_bug_in_a_loader_process_is_not_taken_for_a_shortage():
    with pytest.raises(RuntimeError):
        run(
            raising(
                RuntimeError(f"Caught in DataLoader worker process 0.\nOriginal {_TRACE}\nRuntimeError: x\n")
            )
        )


def test_a_long_error_keeps_its_ends(capsys):
    _, text = ends(capsys, raising(ValueError(f"{'/folder' * 500}: 3 x 4 pixels; allowed: 5 x 5 or more")))
    assert text.startswith("error: /folder/folder") and "…" in text and len(text) < 420
    assert text.endswith("3 x 4 pixels; allowed: 5 x 5 or more\n")


def test_traces_and_wrong_options_are_escaped(capsys):
    for action in (
        lambda: run(raising(ValueError("a\x1b[2Jb")), "--traceback"),
        lambda: parse("--a\x1b[2Jb\nc"),
    ):
        with pytest.raises(SystemExit):
            action()
        err = capsys.readouterr().err
        assert r"a\x1b[2Jb" in err and "\x1b" not in err


def test_configuration_errors_are_one_line_and_status_2(capsys, tmp_path):
    status, text = ends(capsys, raising(AssertionError), "MODEL.NMAE", "RN50")
    assert status == 2 and text.startswith("error: command line: unknown key MODEL.NMAE")
    assert text.count("\n") == 1
    status, text = ends(capsys, raising(AssertionError), "--config_file", str(tmp_path / "gone.yml"))
    assert status == 2 and text.endswith("gone.yml does not exist\n")


def test_traceback_option_shows_both(capsys):
    status, text = ends(capsys, raising(ValueError("wrong")), "--traceback")
    assert status == 2 and text.startswith("Traceback") and text.endswith("\nerror: wrong\n")


def test_of_several_processes_the_line_says_which(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert ends(capsys, raising(ValueError("wrong"))) == (2, "error: wrong\n")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert ends(capsys, raising(ValueError("wrong"))) == (2, "error: process 1: wrong\n")


def test_the_context_alone(capsys):
    with end_in_one_line():
        pass
    with pytest.raises(SystemExit) as caught, end_in_one_line():
        raise KeyError("no row 'a'")
    assert caught.value.code == 2 and capsys.readouterr().err == "error: no row 'a'\n"
    with pytest.raises(SystemExit) as caught, end_in_one_line():
        raise SystemExit(143)  # a stopped run keeps its status
    assert caught.value.code == 143 and capsys.readouterr().err == ""


def test_the_line_is_in_the_log_file_too_and_once_on_the_terminal(tmp_path, capsys):
    setup_logger(tmp_path, "train_log.txt")
    with pytest.raises(SystemExit), end_in_one_line():
        raise ValueError("SOLVER.SEED is -1")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: SOLVER.SEED is -1\n")
    assert (tmp_path / "train_log.txt").read_text("utf-8").endswith("transreid ERROR: SOLVER.SEED is -1\n")


@pytest.mark.parametrize("text", ["CUDA out of memory", "The DataLoader worker", ""])
def test_other_runtime_errors_are_bugs_and_pass_through(text):
    with pytest.raises(RuntimeError):
        run(raising(RuntimeError(text)))


def test_resume_is_an_option_of_those_that_ask_for_it(capsys):
    def resumable(*argv):
        options = {"description": "", "default_config": DEFAULT, "add_options": add_resume}
        return parse_arguments(argv, cfg, **options)

    assert resumable("--resume", "A", "1").resume and not resumable().resume
    with pytest.raises(SystemExit):
        resumable("A", "1", "--resume")
    assert "--resume stands behind the KEY VALUE pairs" in capsys.readouterr().err
    for words in (["logs/last.pt"], ["a.pt", "A", "1"], ["a.pt", "--config_file", "b.yml"]):
        with pytest.raises(SystemExit):
            resumable("--resume", *words)
        assert (
            f"it continues last.pt in OUTPUT_DIR; it is followed by {words[0]}\n" in capsys.readouterr().err
        )
    with pytest.raises(SystemExit):
        resumable("--resume=last.pt", "A", "1")
    told = capsys.readouterr().err
    assert "'last.pt'; --resume takes no file: it continues last.pt in OUTPUT_DIR\n" in told
    assert resumable("--resume", "NO_KEY", "1").opts == ["NO_KEY", "1"]
    with pytest.raises(SystemExit):
        parse("--resume")
    with pytest.raises(SystemExit):
        resumable("--help")
    assert "continue from OUTPUT_DIR/last.pt" in " ".join(capsys.readouterr().out.split())


def test_interrupt_is_status_130(capsys):
    assert ends(capsys, raising(KeyboardInterrupt())) == (130, "interrupted\n")


def test_other_exceptions_are_bugs_and_pass_through():
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))
