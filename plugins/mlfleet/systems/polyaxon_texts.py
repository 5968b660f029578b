"""Texts that reach a Polyaxon run as they are: the server renders and reads every text of an operation."""

from __future__ import annotations

import ast
import base64

from mlfleet.errors import SpecError

_TEMPLATE_MARKS = ("{{", "{%")
_SELF_DECODING = """# {name}, sent encoded because Polyaxon would take its braces for a template
import base64 as _base64
exec(compile(_base64.b64decode("{encoded}"), "{name}", "exec"))
"""


def survives_templating(name: str, content: str, source: str) -> str:
    """A file's content in a form that reaches the run unchanged.

    The server renders every text as a Jinja template, again and again until nothing changes (specs/libs/parser.py), so
    no ``{{`` can be escaped; and a text that is a Python literal becomes its value. A Python file that would suffer is
    sent encoded and decodes itself; any other one is refused.
    """
    if not any(mark in content for mark in _TEMPLATE_MARKS) and not is_literal(content):
        return content
    if name.endswith(".py"):
        encoded = base64.b64encode(content.encode()).decode()
        return _SELF_DECODING.format(name=name, encoded=encoded)
    if is_literal(content):
        raise SpecError(
            "polyaxon", source, "not submitted", f"the server would turn {name} into a value; give it as a .py file"
        )
    line = next(n for n, text in enumerate(content.splitlines(), 1) if any(mark in text for mark in _TEMPLATE_MARKS))
    raise SpecError(
        "polyaxon",
        source,
        "not submitted",
        f"{name}:{line} has {{{{ or {{%, which Polyaxon takes for a template in any file but .py",
    )


def is_literal(content: str) -> bool:
    """Whether the server takes a text for the value that it writes: ``1.4`` for a number."""
    try:
        ast.literal_eval(content)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return False
    return True


def as_revision(name: str) -> str:
    """A git revision that the server takes for no number: ``1.4`` as ``1.4~0``, which is the same commit."""
    return f"{name}~0" if is_literal(name) else name
