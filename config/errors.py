"""From errors about an argument to errors about the key that gave it its value."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def as_keys(keys: Mapping[str, str]) -> Iterator[None]:
    """Names keys in place of arguments: "neck_feature is 'x'; allowed: …" becomes "TEST.NECK_FEAT is 'x'; …".

    `keys` maps arguments to full keys (or options). Arguments are the first word of a message and words in
    backquotes. A ValueError or OSError that names one is raised again as one of the same type; every other
    error passes through.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        message = re.sub(
            r"^(\w+)(?= )|`(\w+)`", lambda found: keys.get(found[1] or found[2], found[0]), str(error)
        )
        if message == str(error):
            raise
        raise type(error)(message) from error
