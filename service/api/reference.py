"""The page that explains the API, made from its OpenAPI description; it loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font: 14px/1.5 ui-monospace, monospace; background: #8882; border-radius: 4px; padding: 0 .3em }
pre { padding: .6em; overflow-x: auto } table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .3em .8em .3em 0; border-bottom: 1px solid #8884 }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd } a { color: #8cf } }
"""


def reference_page(description: dict[str, Any]) -> str:
    """HTML of an OpenAPI description."""
    info, schemas = description["info"], description.get("components", {}).get("schemas", {})
    title = escape(info["title"])
    parts = [f"<h1>{title} {escape(info['version'])}</h1>", _text(info.get("description", ""))]
    parts.append('<p>As OpenAPI, for other tools: <a href="openapi.json">openapi.json</a>.</p>')
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts += _operation(operation, schemas)
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _operation(operation: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    yield _text(operation.get("description", ""))
    rows = [
        (each["name"], f"{each['schema'].get('type', '')}, in the {each['in']}", each.get("description", ""))
        for each in operation.get("parameters", [])
    ]
    if rows:
        yield _table(("parameter", "type", ""), rows)
    content = operation.get("requestBody", {}).get("content", {})
    if content:
        yield f"<p>Body: {', '.join(f'<code>{escape(kind)}</code>' for kind in content)}</p>"
        yield _table(("field", "type", ""), list(_fields(next(iter(content.values()))["schema"], schemas)))
    rows = []
    for status, answer in operation["responses"].items():
        schema = next(iter(answer.get("content", {}).values()), {}).get("schema", {})
        rows.append((status, _type(schema), answer["description"]))
    yield _table(("status", "answer", ""), rows)
    for status, answer in operation["responses"].items():
        schema = next(iter(answer.get("content", {}).values()), {}).get("schema", {})
        if status.startswith("2") and "$ref" in schema:
            yield f"<p>{escape(_type(schema))}:</p>"
            yield _table(("field", "type", ""), list(_fields(schema, schemas)))


def _fields(schema: dict[str, Any], schemas: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    schema = schemas[_name(schema)] if "$ref" in schema else schema
    for name, each in schema.get("properties", {}).items():
        default = each.get("default")
        shown = f" (default: {default})" if default not in (None, "") else ""
        yield name, _type(each), each.get("description", "") + shown


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _name(schema)
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return schema.get("format") or schema.get("type", "")


def _name(schema: dict[str, Any]) -> str:
    return schema["$ref"].rpartition("/")[2]


def _text(text: str) -> str:
    paragraphs = (f"<p>{escape(part)}</p>" for part in text.split("\n\n") if part.strip())
    return "\n".join(paragraphs)


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        lines.append(f"<tr><td><code>{escape(first)}</code></td>{cells}</tr>")
    return f"<table><tr>{head}</tr>\n" + "\n".join(lines) + "</table>"
