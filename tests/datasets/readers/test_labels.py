import pytest

from datasets.readers.labels import in_table, number_pids, rank_labels, written_alike


@pytest.mark.parametrize(
    ("same", "form"),
    [
        (["7", "7.0", "7.", "007", "7.000", "007.0", "7e+00", "7.0e+00"], "7"),
        (["-1", "-1.0", "-01"], "-1"),
        (["0", "00", "-0", "0.0"], "0"),
        (["100000", "1e+05", "1.0E+05"], "100000"),
        (["0" * 5000 + "12"], "12"),
        (["9" * 18], "9" * 18),
    ],
)
def test_integers_of_a_table_have_one_form(same, form):
    assert {in_table(text) for text in same} == {form}


@pytest.mark.parametrize(
    "word",
    [
        "7.5",
        "1.23457e+02",
        "1e3",
        "0e12",
        "1e+18",
        "1e+999",
        "9" * 19,
        "9" * 5000,
        "٣",
        "²",
        "1_0",
        "0x1",
        "+7",
    ],
)
def test_other_texts_are_words(word):
    assert in_table(word) == word


def test_a_name_is_another_than_the_number_that_it_writes():
    labels = ["5", "005", "0005", "12", "-01", "ann", "9" * 20]
    pids = number_pids(labels)
    assert [pids[label] for label in labels] == [5, 14, 15, 12, 13, 17, 16]


@pytest.mark.parametrize("more", [[], ["ann"], ["007"], ["9" * 25], ["1000"], ["-1"]])
def test_labels_elsewhere_neither_merge_nor_split_nor_move_integers(more):
    labels = ["7", "8", "010", "-5"]
    pids = number_pids([*labels, *more])
    assert [pids[label] for label in labels] == [7, 8, 10, -5]
    assert len(set(pids.values())) == len(set(labels) | set(more) | {"-1"})
    assert pids["-1"] == -1


def test_ranks_of_the_first_labels_do_not_depend_on_the_others():
    first = ["10", "9", "hall", "010"]
    wanted = {"9": 0, "10": 1, "010": 2, "hall": 3}
    assert rank_labels(first) == wanted
    assert rank_labels(first, ["gate", "9", "1"]) == wanted | {"1": 4, "gate": 5}


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ({"5": 5, "005": 6, "0005": 7}, ["'5' ≠ '005' ≠ '0005'"]),
        ({"7": 7, "7.0": 7, "8": 8}, ["'7' = '7.0'"]),
        ({"A": 0, "a": 1, "b": 2, "cam01": 3, "cam1": 4}, ["'A' ≠ 'a'", "'cam01' ≠ 'cam1'"]),
        ({"x": 0, "x ": 1}, ["'x' ≠ 'x '"]),
        ({"x": 0, "x\ufeff": 1}, [r"'x' ≠ 'x\ufeff'"]),
        ({"caf\xe9": 0, "cafe\u0301": 1}, ["'cafe\u0301' ≠ 'caf\xe9'"]),
        ({"7": 7, "７": 8, "+7": 9, "7,0": 10}, ["'7' ≠ '+7' ≠ '7,0' ≠ '７'"]),
        (
            {"3": 3, "٣": 4, "-1": -1, "−1": 5, "a-1": 6, "a–०1": 7},
            ["'-1' ≠ '−1'", "'3' ≠ '٣'", "'a-1' ≠ 'a–०1'"],
        ),
        (
            {"7.5": 0, "7.50": 1, "1e5": 2, "100000": 3, "-0": 4, "0": 4},
            ["'0' = '-0'", "'100000' ≠ '1e5'", "'7.5' ≠ '7.50'"],
        ),
        ({"9" * 20: 0, "9" * 21: 1, "0" + "9" * 20: 2}, [f"'0{'9' * 20}' ≠ '{'9' * 20}'"]),
        ({"1.5": 0, "1.05": 1, "10": 2, "1": 3, "100": 4, "a0": 5, "a00": 6}, ["'a0' ≠ 'a00'"]),
    ],
)
def test_labels_that_are_written_alike(numbers, told):
    assert written_alike(numbers) == told
