"""The conditions that the KFP compiler writes: a small part of CEL, evaluated without ``eval``.

``inputs.parameter_values['x'] == 'heads'``, ``int(inputs.parameter_values['n']) > 2``, joined by ``&&``, ``||``, ``!``
and parentheses.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_CASTS: dict[str, Callable[[Any], Any]] = {"int": lambda v: int(float(v)), "double": float, "string": str, "bool": bool}
_STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")


class UnknownCondition(Exception):
    """The condition is none of those that the compiler writes."""


def holds(condition: str, parameters: Mapping[str, Any]) -> bool:
    """Whether the condition is true for these input parameters. Raises UnknownCondition."""
    try:
        tree = ast.parse(_as_python(condition), mode="eval")
        return bool(_value(tree.body, parameters))
    except (SyntaxError, ValueError, TypeError) as error:
        raise UnknownCondition(f"the condition {condition!r} can't be evaluated: {error}") from error


def _as_python(condition: str) -> str:
    """CEL's operators in Python's words, strings left alone."""
    parts, last = [], 0
    for found in _STRING.finditer(condition):
        parts += [_operators(condition[last : found.start()]), found.group()]
        last = found.end()
    return "".join([*parts, _operators(condition[last:])]).strip()


def _operators(text: str) -> str:
    words = {"&&": " and ", "||": " or "}
    for cel, python in words.items():
        text = text.replace(cel, python)
    text = re.sub(r"!(?!=)", " not ", text)
    return re.sub(r"\btrue\b", "True", re.sub(r"\bfalse\b", "False", text))


def _value(node: ast.AST, parameters: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_value(each, parameters) for each in values)
        case ast.BoolOp(op=ast.Or(), values=values):
            return any(_value(each, parameters) for each in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, parameters)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, parameters)
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
            return _COMPARISONS[type(op)](_value(left, parameters), _value(right, parameters))
        case ast.Call(func=ast.Name(id=name), args=[argument]) if name in _CASTS:
            return _CASTS[name](_value(argument, parameters))
        case ast.Subscript(value=ast.Attribute(attr="parameter_values"), slice=ast.Constant(value=str(name))):
            if name not in parameters:
                raise ValueError(f"the parameter {name} has no value")
            return parameters[name]
    raise ValueError(f"{ast.dump(node)[:80]} is not part of it")
