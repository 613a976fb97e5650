"""Pages of HTML from templates. Needs jinja2."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def fill_page(template: Path, filters: dict[str, Callable[..., Any]], **values: object) -> str:
    """The page of a template, in which all values are escaped and an unknown name is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(template.name).render(values)
