"""Languages of captions: codes such as 'zh' and 'pt-BR', '' for captions whose language is not said."""

import re

CODES = (
    "'' or codes of letters, digits and hyphens, as 'zh' and 'pt-BR', which begin with a letter, each once"
)
CAPTION, TRANSLATION = "caption", "back_translation"  # columns of a table
_TRANSLATED = "bt"  # in the keys of JSON files a back translation, so no language
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*")


def is_language(code: str) -> bool:
    """Whether the text is a code of a language, or ''."""
    return not code or (code != _TRANSLATED and _CODE.fullmatch(code) is not None)


def column_of(language: str, stem: str = CAPTION) -> str:
    """The name of a language's column, `stem` for '': 'caption', 'caption_zh'."""
    return f"{stem}_{language}" if language else stem


def language_of(column: str, stem: str = CAPTION) -> str | None:
    """The language of a column, None for one that has no captions."""
    if column == stem:
        return ""
    code = column.removeprefix(f"{stem}_")
    return code if code and code != column and is_language(code) else None


def key_of(path: str, language: str, number: int) -> str:
    """The key of a caption of an image: `path#0`, `path#zh0`, after a digit at the end `path#es-419-0`."""
    between = "-" if language[-1:].isdigit() else ""
    return f"{path}#{language}{between}{number}"
