"""What tests ask of a system that Windows does not have."""

import re
from pathlib import Path

_TESTS = Path(__file__).parent


def is_lacking(error: BaseException, file: str) -> bool:
    """Whether `error`, raised in `file`, is that Windows lacks what a test asks the system for."""
    no_permission = getattr(error, "winerror", None) == 1314  # to make a link
    lacks = re.match(r"module '(os|signal|socket|resource)' has no attribute", str(error))
    return no_permission or (lacks is not None and Path(file).is_relative_to(_TESTS))
