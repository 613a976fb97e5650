"""Languages in which drawn people are described: a file for each, and the table of them."""

from collections.abc import Callable, Mapping

import numpy as np

from datasets.drawn.languages import chinese, english, russian

Describe = Callable[[Mapping[str, str], str, np.random.Generator], str]  # facts, someone, draws -> sentences

# By the code behind the name of a column or key of captions; English has none.
LANGUAGES: dict[str, Describe] = {"": english.describe, "zh": chinese.describe, "ru": russian.describe}

__all__ = ["LANGUAGES"]
