"""Merging, decoding, and one error line for everything that can be wrong in a file or on the command line."""

import pytest

from config import cfg, cfg_base
from config.load import leaves, load_config


@pytest.fixture
def write(tmp_path):
    def write(text, name="run.yml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def fails(*arguments, error=ValueError):
    """The message of the error that loading raises, which is one line."""
    with pytest.raises(error) as caught:
        load_config(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def value(key, text, base=cfg):
    return leaves(load_config(base, "", [key, text]))[key]


def test_defaults_only_is_a_frozen_copy():
    before = leaves(cfg)
    config = load_config(cfg, "", ["SOLVER.STAGE2.STEPS", "(1, 2)", "MODEL.NAME", "RN50"])
    assert (config.is_frozen(), cfg.is_frozen()) == (True, False)
    assert leaves(cfg) == before and leaves(config) != before
    with pytest.raises(AttributeError):
        config.SOLVER.STAGE2.BASE_LR = 1.0


def test_a_frozen_base_can_be_loaded_again():
    first = load_config(cfg_base, "", ["SOLVER.MAX_EPOCHS", "3"])
    second = load_config(first, "", ["SOLVER.BASE_LR", "1"])
    assert (second.SOLVER.MAX_EPOCHS, second.SOLVER.BASE_LR, second.is_frozen()) == (3, 1.0, True)
    assert first.SOLVER.BASE_LR == cfg_base.SOLVER.BASE_LR


def test_file_then_command_line(write):
    path = write("MODEL:\n  NAME: RN50\n  SIE_COE: 2\nOUTPUT_DIR: from_file\n")
    config = load_config(cfg, str(path), ["OUTPUT_DIR", "from_line", "OUTPUT_DIR", "twice"])
    assert (config.MODEL.NAME, config.MODEL.SIE_COE, config.OUTPUT_DIR) == ("RN50", 2.0, "twice")


@pytest.mark.parametrize(
    ("key", "text", "wanted"),
    [
        ("MODEL.STRIDE_SIZE", "[12, 12]", [12, 12]),
        ("MODEL.STRIDE_SIZE", "(12, 14)", [12, 14]),
        ("DATASETS.NAMES", "('market1501')", "market1501"),
        ("DATASETS.NAMES", " market1501 ", "market1501"),
        ("DATASETS.NAMES", "msmt17", "msmt17"),
        ("DATASETS.NAMES", "('veri',)", "veri"),
        ("DATASETS.NAMES", "['veri']", "veri"),
        ("MODEL.SIE_CAMERA", "True", True),
        ("MODEL.SIE_COE", "1", 1.0),
        ("SOLVER.STAGE2.BASE_LR", "5e-6", 5e-6),
        ("SOLVER.STAGE2.STEPS", "(10,)", [10]),
        ("SOLVER.STAGE2.STEPS", "[]", []),
        ("INPUT.PIXEL_MEAN", "[0, 1, 0.5]", [0.0, 1.0, 0.5]),
        ("TEST.WEIGHT", "logs/ViT-B-16_60.pth", "logs/ViT-B-16_60.pth"),
        ("TEST.WEIGHT", "'quoted.pth'", "quoted.pth"),
        ("TEST.WEIGHT", "", ""),
        ("MODEL.DEVICE_ID", "1", "1"),
        ("MODEL.DEVICE_ID", "('1')", "1"),
        ("OUTPUT_DIR", "2024", "2024"),
        ("OUTPUT_DIR", "C:\\data\\x", "C:\\data\\x"),
        ("OUTPUT_DIR", "__import__('os').system('ls')", "__import__('os').system('ls')"),
        ("MODEL.TRANSFORMER_TYPE", "None", "None"),
        ("MODEL.IF_LABELSMOOTH", "off", "off"),
        ("MODEL.DEVICE_ID", "0,1", "0,1"),
        ("MODEL.DEVICE_ID", "('0,1')", "0,1"),
        ("OUTPUT_DIR", "1,2", "1,2"),
        ("OUTPUT_DIR", "007", "007"),
        ("OUTPUT_DIR", "(1)", "(1)"),
        ("OUTPUT_DIR", "1.10", "1.10"),
        ("OUTPUT_DIR", "1_000", "1_000"),
        ("OUTPUT_DIR", "-1e5", "-1e5"),
        ("OUTPUT_DIR", "2024-10-10", "2024-10-10"),
        ("OUTPUT_DIR", "...", "..."),
        ("OUTPUT_DIR", "b'x'", "b'x'"),
        ("OUTPUT_DIR", "None", "None"),
        ("OUTPUT_DIR", "(" * 10_000, "(" * 10_000),
        ("OUTPUT_DIR", "-" * 100_000 + "1", "-" * 100_000 + "1"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_decoding(key, text, wanted):
    got = value(key, text)
    assert got == wanted and type(got) is type(wanted)
    if isinstance(wanted, list):
        assert [type(item) for item in got] == [type(item) for item in wanted]


def test_yaml_text_is_decoded_too(write):
    path = write(
        "MODEL:\n  DEVICE_ID: ('3')\n  STRIDE_SIZE: '[12, 12]'\nSOLVER:\n  STAGE1: {BASE_LR: 5e-6}\n"
        "DATASETS:\n  NAMES: ('dukemtmc')\n  ROOT_DIR: ('/data')\n"
    )
    config = load_config(cfg, path)
    assert (config.MODEL.DEVICE_ID, config.MODEL.STRIDE_SIZE) == ("3", [12, 12])
    assert config.SOLVER.STAGE1.BASE_LR == 5e-6
    assert (config.DATASETS.NAMES, config.DATASETS.ROOT_DIR) == ("dukemtmc", "/data")


WRITTEN = "0 007 1.10 0x1F 1:30 1_000 .5 1e3 2024-01-01 2024-13-01 0,1 None (1)"


@pytest.mark.parametrize("text", WRITTEN.split())
def test_text_in_yaml_is_taken_as_written(write, text):
    config = load_config(cfg, write(f"OUTPUT_DIR: {text}  # comment\nMODEL: {{<<: {{DEVICE_ID: 007}}}}\n"))
    assert (text, "007") == (config.OUTPUT_DIR, config.MODEL.DEVICE_ID)


@pytest.mark.parametrize("base", [cfg, cfg_base])
def test_a_dumped_configuration_loads_as_itself(write, base):
    config = load_config(
        base, "", ["MODEL.DEVICE_ID", "1", "OUTPUT_DIR", "logs/2024", "TEST.FEAT_NORM", "no"]
    )
    assert leaves(load_config(base, write(config.dump()))) == leaves(config)


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "DATASETS:\n", "SOLVER:\n  STAGE1:\n  STAGE2: {}\n", "TEST:\n  WEIGHT:\n"]
)
def test_empty_nodes_leave_the_defaults(write, text):
    assert leaves(load_config(cfg, write(text))) == leaves(cfg)


def test_parent_file_is_merged_first(write):
    write("MODEL:\n  NAME: RN50\n  SIE_COE: 5\nOUTPUT_DIR: first\n", "grand.yml")
    write("_BASE_: ../grand.yml\nMODEL:\n  SIE_COE: 4\n", "sub/parent.yml")
    path = write("MODEL: {SIE_CAMERA: True}\n_BASE_: sub/parent.yml\nOUTPUT_DIR: last\n")
    config = load_config(cfg, path)
    assert (config.MODEL.NAME, config.MODEL.SIE_COE, config.OUTPUT_DIR) == ("RN50", 4.0, "last")
    assert config.MODEL.SIE_CAMERA is True and "_BASE_" not in config


def test_parent_file_errors(write):
    circle = write("_BASE_: other.yml\n", "one.yml")
    write("_BASE_: one.yml\n", "other.yml")
    assert "other.yml: _BASE_ 'one.yml' leads back" in fails(cfg, circle)
    (circle.parent / "link.yml").symlink_to("link.yml")
    assert "link.yml" in fails(cfg, write("_BASE_: link.yml\n"), error=(ValueError, OSError))
    assert "_BASE_ is 3" in fails(cfg, write("_BASE_: 3\n"))
    assert "gone.yml does not exist" in fails(cfg, write("_BASE_: gone.yml\n"), error=FileNotFoundError)
    inner = fails(cfg, write("MODEL:\n  _BASE_: one.yml\n"))
    assert "run.yml, line 2: unknown key MODEL._BASE_" in inner
    write("MODEL:\n  NMAE: x\n", "one.yml")
    assert "one.yml, line 2: unknown key MODEL.NMAE" in fails(cfg, write("_BASE_: one.yml\n"))


def test_file_errors(write, tmp_path):
    assert "gone.yml does not exist" in fails(cfg, tmp_path / "gone.yml", error=FileNotFoundError)
    assert "run.py; allowed: files that end in .yml or .yaml" in fails(cfg, write("cfg = {}", "run.py"))
    assert "allowed: files that end in" in fails(cfg, write("{}", "run"))
    assert "run.yml, line 3: not valid YAML" in fails(cfg, write("MODEL:\n  NAME: a\n NECK: b\n"))
    assert "run.yml, line 2: not valid YAML" in fails(cfg, write("MODEL:\n\tNAME: a\n"))
    assert "holds a list; allowed: a mapping" in fails(cfg, write("- MODEL\n"))
    assert "line 4: MODEL stands already in line 1" in fails(
        cfg, write("MODEL:\n  NAME: a\n\nMODEL:\n  NECK: b\n")
    )
    latin = tmp_path / "latin.yml"
    latin.write_bytes("OUTPUT_DIR: é".encode("latin-1"))
    assert "latin.yml: cannot be read as text in UTF-8" in fails(cfg, latin)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("MODEL: *a", "not valid YAML"),
        ("MODEL: {<<: 3}", "not valid YAML"),
        ("{a: b}: c", "not valid YAML"),
        ("MODEL: {NAME: 'a\0b'}", "not valid YAML"),
        ("on: 4", "unknown key True"),
        ("SOLVER: {SEED: 2024-01-01}", "expected: int"),
        ("MODEL", "holds a str"),
        ("_BASE_: .", "allowed: files that end in"),
    ],
)
def test_more_file_errors(write, text, told):
    assert told in fails(cfg, write(text))


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffMODEL: {NAME: a}",
        "MODEL:\r\n  NAME: a\r\n",
        "MODEL: {NAME: &a a, PRETRAIN_PATH: *a}",
        "MODEL: {<<: {NAME: a}, NECK: c}",
        "--- \nMODEL: {NAME: a}\n...\n",
    ],
)
def test_other_forms_of_yaml(write, text):
    assert load_config(cfg, write(text)).MODEL.NAME == "a"


def test_python_tags_are_refused(write, tmp_path):
    target = tmp_path / "made"
    path = write(f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{target}']\n")
    assert "run.yml, line 1: not valid YAML" in fails(cfg, path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("MODEL.NMAE", "MODEL.NAME"),
        ("model.sie_camera", "MODEL.SIE_CAMERA"),
        ("STRIDE_SIZE", "MODEL.STRIDE_SIZE"),
        ("SOLVER.STAGE3.BASE_LR", "SOLVER.STAGE2.BASE_LR"),
        ("MODEL.NAME.X", "MODEL.NAME"),
    ],
)
def test_unknown_key_names_place_and_nearest_key(key, nearest):
    message = fails(cfg, "", [key, "1"])
    assert message == f"command line: unknown key {key}; the nearest known key is {nearest}"


def test_unknown_key_in_a_file_names_the_line(write):
    message = fails(cfg, write("OUTPUT_DIR: a\nMODEL:\n  STRIDE: 3\n"))
    assert "run.yml, line 3: unknown key MODEL.STRIDE; the nearest known key is MODEL.STRIDE_SIZE" in message


def test_unknown_empty_nodes_are_errors(write):
    assert "unknown key MODLE" in fails(cfg, write("MODLE:\n"))
    assert "unknown key MODEL.NMAE" in fails(cfg, write("MODEL:\n  NMAE: {}\n"))


def test_keys_of_the_other_tree_name_the_programs(write, repository):
    message = fails(cfg, "", ["SOLVER.BASE_LR", "1"])
    assert (
        "SOLVER.BASE_LR is a key of train.py, test.py, train_pcl.py, test_pcl.py, train_tbps.py, " in message
    )
    assert message.endswith("SOLVER.STAGE2.BASE_LR")
    message = fails(cfg_base, "", ["SOLVER.STAGE1.BASE_LR", "1"])
    assert "is a key of train_clipreid.py, test_clipreid.py only" in message
    assert message.endswith("SOLVER.BASE_LR")
    message = fails(cfg_base, repository / "configs/person/vit_clipreid.yml")
    assert "vit_clipreid.yml, line" in message and "test_clipreid.py only" in message


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("MODEL.SIE_CAMERA", "1", "bool, True or False"),
        ("MODEL.SIE_CAMERA", "yes", "bool"),
        ("SOLVER.STAGE1.MAX_EPOCHS", "60.0", "int, a whole number"),
        ("SOLVER.STAGE1.MAX_EPOCHS", "True", "int"),
        ("SOLVER.STAGE1.MAX_EPOCHS", "None", "int"),
        ("SOLVER.STAGE1.BASE_LR", "fast", "float, a number"),
        ("SOLVER.STAGE1.BASE_LR", "False", "float"),
        ("MODEL.NAME", "True", "str, text (bare on, off"),
        ("MODEL.DEVICE_ID", "[0, 1]", "str"),
        ("MODEL.DEVICE_ID", "(0, 1)", "str"),
        ("MODEL.NAME", "['RN50']", "str"),
        ("DATASETS.NAMES", "[]", "str"),
        ("MODEL.STRIDE_SIZE", "12", "list of 2 ints, e.g. '[12, 12]'"),
        ("MODEL.STRIDE_SIZE", "[12]", "list of 2 ints, e.g. '[16, 16]'"),
        ("MODEL.STRIDE_SIZE", "[12, 12.0]", "list of 2 ints"),
        ("INPUT.SIZE_TRAIN", "[256, 128, 3]", "list of 2 ints"),
        ("INPUT.SIZE_TEST", "[True, True]", "list of 2 ints"),
        ("INPUT.PIXEL_MEAN", "0.5", "list of 3 floats, e.g. '[0.5, 0.5, 0.5]'"),
        ("INPUT.PIXEL_STD", "['a', 1, 1]", "list of 3 floats"),
        ("SOLVER.STAGE2.STEPS", "30", "list of any number of ints, e.g. '[30]'"),
        ("SOLVER.STAGE2.STEPS", "[1.5]", "list of any number of ints"),
    ],
)
def test_wrong_types(key, text, expected):
    message = fails(cfg, "", [key, text])
    assert message.startswith(f"command line: {key} is ") and f"expected: {expected}" in message


@pytest.mark.parametrize("letter", ["\\0", "\\ud800", "\\udfff"])
def test_text_that_no_name_can_hold(write, letter):
    message = fails(cfg, write(f'OUTPUT_DIR: "a{letter}b"'))
    assert "run.yml, line 1: OUTPUT_DIR is 'a\\" in message and "expected: str, text without null" in message


def test_wrong_types_in_a_file_name_the_line(write):
    message = fails(cfg, write("MODEL:\n  IF_LABELSMOOTH: on\n"))
    assert "run.yml, line 2: MODEL.IF_LABELSMOOTH is True; expected: str, text" in message
    assert "put the word in quotes" in message


def test_a_group_takes_no_value(write):
    assert "MODEL is 5, but it is a group of keys" in fails(cfg, write("MODEL: 5\n"))
    assert "SOLVER.STAGE1 is '3', but it is a group" in fails(cfg, "", ["SOLVER.STAGE1", "3"])
    assert "unknown key MODEL.NAME.A" in fails(cfg, write("MODEL: {NAME: {A: 1}}\n"))


@pytest.mark.parametrize(
    "names", ["('market1501', 'msmt17')", "['market1501', 'msmt17']", "market1501,msmt17"]
)
def test_one_data_set_only(write, names):
    in_file = write(f"DATASETS:\n  NAMES: {names}\n")
    for message in (fails(cfg, "", ["DATASETS.NAMES", names]), fails(cfg, in_file)):
        assert "DATASETS.NAMES has 2 names, market1501, msmt17; allowed: one" in message
        assert "DATASETS.TRAIN_ALSO" in message and "DATASETS.TEST" in message
    assert "run.yml, line 2: DATASETS.NAMES" in message
    if names[0] in "([":
        assert "without brackets" in fails(cfg, "", ["DATASETS.TRAIN_ALSO", names])


def test_pairs_must_be_pairs():
    assert "3 words 'INPUT.SIZE_TRAIN 256 128'" in fails(cfg, "", ["INPUT.SIZE_TRAIN", "256", "128"])
