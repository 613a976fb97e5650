import pytest

from utils.scripts import clusters, has_runs, runs


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("blue-jeans", [("blue-jeans", False)]),
        ("мужчина", [("мужчина", False)]),
        ("빨간색", [("빨간색", False)]),
        ("حقيبة", [("حقيبة", False)]),
        ("红色外套", [("红色外套", True)]),
        ("穿T恤，黑色", [("穿", True), ("T", False), ("恤", True), ("，", False), ("黑色", True)]),
        ("赤いコート", [("赤いコート", True)]),
        ("ｺｰﾄ", [("ｺｰﾄ", True)]),
        ("𠮷野家", [("𠮷野家", True)]),
        ("เสื้อสีแดง", [("เสื้อสีแดง", True)]),
        ("ເສື້ອ", [("ເສື້ອ", True)]),
        ("အနီရောင်", [("အနီရောင်", True)]),
        ("ក្រហម", [("ក្រហម", True)]),
        ("", []),
    ],
)
def test_runs_of_letters_without_spaces(word, parts):
    assert runs(word) == parts
    assert has_runs(word) == any(is_run for _, is_run in parts)


@pytest.mark.parametrize(
    ("run", "wanted"),
    [
        ("红色", ["红", "色"]),
        ("が\u3099", ["が\u3099"]),  # a mark of its own
        ("เสื้อ", ["เ", "สื้", "อ"]),
        ("ក្រហម", ["ក្រ", "ហ", "ម"]),
        ("", []),
    ],
)
def test_letters_keep_their_marks(run, wanted):
    assert clusters(run) == wanted and "".join(clusters(run)) == run
