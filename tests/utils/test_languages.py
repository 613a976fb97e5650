import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.languages import column_of, is_language, key_of, language_of

CODES = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,3}(-[A-Za-z0-9]{1,3}){0,2}", fullmatch=True)


@pytest.mark.parametrize("code", ["", "zh", "ru", "pt-BR", "zh-Hans", "es-419", "a"])
def test_codes(code):
    assert is_language(code) and language_of(column_of(code)) == code


@pytest.mark.parametrize("code", ["bt", "z h", "zh_TW", "-", "zh-", "-zh", "1", "419", "中", "zh\n", "a--b"])
def test_texts_that_are_no_codes(code):
    assert not is_language(code)
    assert language_of(f"caption_{code}") is None


@pytest.mark.parametrize("column", ["path", "captions", "Caption", "caption_", "back_translation", ""])
def test_columns_that_have_no_captions(column):
    assert language_of(column) is None


def test_columns_of_back_translations():
    assert column_of("", "back_translation") == "back_translation"
    assert language_of("captions_bt_zh", "captions_bt") == "zh"
    assert language_of("captions_bt", "captions") is None


def test_keys_are_readable():
    keys = [key_of("a/b.jpg", code, 12) for code in ("", "zh", "es-419")]
    assert keys == ["a/b.jpg#12", "a/b.jpg#zh12", "a/b.jpg#es-419-12"]


@given(st.dictionaries(st.tuples(st.just("") | CODES, st.integers(0, 10**6)), st.none(), min_size=2))
def test_keys_of_an_image_are_unique_over_languages(captions):
    assert len({key_of("x", *each) for each in captions}) == len(captions)


@pytest.mark.parametrize("codes", [("zh", "zh1"), ("es-4", "es-41"), ("a-1", "a-1-5"), ("", "a")])
def test_keys_of_codes_that_end_in_digits_are_unique(codes):
    numbers = [*range(30), *range(100, 130), 1010, 10101]
    keys = {key_of("x", code, number) for code in codes for number in numbers}
    assert len(keys) == len(codes) * len(numbers)
    assert all(key.removeprefix("x#")[-1] in string.digits for key in keys)
