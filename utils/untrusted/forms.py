"""Forms of files and of values in them: each is one class, which every reader of that form uses.

pydantic compares types strictly (no 1.0 or "1" for 1) and refuses deep nesting and text that is no Unicode.
"""

import os
import re
import reprlib
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, TypeAdapter, ValidationError

from utils.text import one_line, printable, shortened
from utils.untrusted.plain import MEBIBYTE, read_plain, read_plain_text

MAX_JSON = 64 * MEBIBYTE
_VALUE, _MESSAGE = 60, 200  # characters of a wrong value that an error shows, and of what is wrong with it
# A backslash, a whole pair (both stay), or half of one.
_HALF_PAIR = re.compile(
    rb"(\\\\|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2})|\\(ud[89a-f][0-9a-f]{2})", re.IGNORECASE
)


class Form(BaseModel):
    """Base of forms: frozen, strict; NaN and infinity are no numbers, unknown fields are left out."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, extra="ignore")


AnyForm = TypeVar("AnyForm", bound=Form)
Texts = Annotated[list[str], FailFast()]  # the mistakes of a long list may be larger than any memory


def read_json(path: str | os.PathLike[str], form: type[AnyForm], limit: int = MAX_JSON) -> AnyForm:
    """The content of a JSON file of at most `limit` bytes.

    Raises FileNotFoundError or OSError, or ValueError that names the file, the field, its value and what is
    allowed.
    """
    return parse_json(read_plain(path, limit), form, str(path))


def read_json_rows(path: str | os.PathLike[str], form: type[AnyForm], limit: int) -> list[AnyForm]:
    """The content of a JSON file that is one list, with or without byte order mark.

    Raises as `read_json` and for text in UTF-16; the ValueError names the row, from 1, and is about the first
    mistake only.
    """
    content = read_plain_text(path, limit).encode()
    rows = TypeAdapter(Annotated[list[form], FailFast()])
    try:
        return rows.validate_json(_HALF_PAIR.sub(_escaped, content))
    except ValidationError as error:
        raise ValueError(f"{printable(path)}: {_first_mistake(error)}") from error


def parse_json(text: str | bytes, form: type[AnyForm], where: str) -> AnyForm:
    """The content of a JSON text; `where` stands in the ValueError.

    Half a surrogate pair, which Python's writer makes of a file name that is no text, is read as its escape.
    """
    content = text.encode(errors="replace") if isinstance(text, str) else text
    try:
        return form.model_validate_json(_HALF_PAIR.sub(_escaped, content))
    except ValidationError as error:
        raise ValueError(f"{printable(where)}: {_first_mistake(error)}") from error


def check_form(content: Any, form: type[AnyForm], where: str) -> AnyForm:
    """A value of another origin, such as a dict from a checkpoint, as that form; `where` as above."""
    try:
        return form.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{printable(where)}: {_first_mistake(error)}") from error


def _escaped(found: re.Match[bytes]) -> bytes:
    return found[1] or rb"\\" + found[2]


def _first_mistake(error: ValidationError) -> str:
    first, *others = error.errors(include_url=False, include_context=False)
    message = one_line(first["msg"].removeprefix("Value error, "), _MESSAGE)
    allowed = message.removeprefix("Input should be ")
    message = f": {message}" if allowed == message else f"; allowed: {allowed}"
    if first["type"] == "json_invalid" or (first["type"] == "value_error" and not first["loc"]):
        return message[2:]
    row, names = "", first["loc"]
    if names and isinstance(names[0], int):  # the whole is a list
        row, names = f"row {names[0] + 1}: ", names[1:]
    place = row + (shortened(printable(".".join(map(str, names))), _VALUE) or "it")
    value = "" if first["type"] == "missing" else f" is {_shown(first['input'])}"
    more = f" (and {len(others)} more)" if others else ""
    return f"{place}{value}{message}{more}"


def _shown(value: Any) -> str:
    try:
        return shortened(printable(reprlib.repr(value)), _VALUE)
    except ValueError:  # of a number of thousands of digits
        return f"a {type(value).__name__}"
