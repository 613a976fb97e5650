"""From errors about an argument to errors about the key that gave it its value."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def as_keys(keys: Mapping[str, str]) -> Iterator[None]:
    """Names keys in place of arguments: "neck_feature is 'x'; allowed: …" becomes "TEST.NECK_FEAT is 'x'; …".

    `keys` maps arguments to full keys. A ValueError or OSError whose message begins with one of the arguments
    is raised again as one of the same type; every other error passes through.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        argument, space, rest = str(error).partition(" ")
        if argument not in keys:
            raise
        raise type(error)(f"{keys[argument]}{space}{rest}") from error
