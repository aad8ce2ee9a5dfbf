"""Filters as expressions of Milvus.

Milvus servers of the tested version bind no values, so they are written out here, each in the one way that the server's
grammar reads as that value: texts as JSON strings, numbers as their shortest exact digits.
"""

from __future__ import annotations

import json
import math
import operator as operators
from collections.abc import Callable, Mapping
from typing import Any

from amodal.index.spec import Scalar
from amodal.index.where import And, Compare, Has, Not, OneOf, Or, Where

__all__ = ["TEXTS", "has", "to_expression", "value_of"]

TEXTS = "texts"  #: where in a JSON field, which must be an object, several texts stand
_NEVER, _ALWAYS = "id < 0", "id >= 0"
_LEAST = -(2**63)  # the server reads its digits before its sign, and they do not fit
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operators.eq,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}


def has(attribute: str) -> str:
    """The field that says whether an entry has a value of the attribute."""
    return f"has_{attribute}"


def value_of(attribute: str) -> str:
    """The field of the attribute's values; the prefix keeps clear of words of the expression language."""
    return f"value_{attribute}"


def to_expression(where: Where | None, kinds: Mapping[str, str]) -> str:
    """The expression that holds for the same entries.

    Args:
        where: A checked filter, or None for all entries.
        kinds: Declared attributes and their types, as in ``IndexSpec.attributes``.

    Returns:
        The expression; every part of it is true or false, never unknown.

    Example:
        >>> from amodal.index.where import Field
        >>> to_expression((Field("year") < 1990.5) & (Field("tag") == None), {"year": "int", "tag": "str"})
        '((value_year < 1991 and has_year == true) and has_tag == false)'
    """
    match where:
        case None:
            return _ALWAYS
        case Compare(attribute, "==", None):
            return f"{has(attribute)} == false"
        case Compare(attribute, "!=", None):
            return f"{has(attribute)} == true"
        case Compare(attribute, "!=", value):
            return f"not {_known(attribute, kinds[attribute], '==', value)}"
        case Compare(attribute, operator, value):
            return _known(attribute, kinds[attribute], operator, value)
        case OneOf(attribute, values):
            return _one_of(attribute, kinds[attribute], values)
        case Has(attribute, value):
            held = f'{value_of(attribute)}["{TEXTS}"]'
            return f"(json_contains({held}, {_literal('str', value)}) and {has(attribute)} == true)"
        case And(left, right):
            return f"({to_expression(left, kinds)} and {to_expression(right, kinds)})"
        case Or(left, right):
            return f"({to_expression(left, kinds)} or {to_expression(right, kinds)})"
        case Not(part):
            return f"not ({to_expression(part, kinds)})"
    raise TypeError(f"not a filter: {where!r}")


def _known(attribute: str, kind: str, operator: str, value: Any) -> str:
    return f"({_comparison(value_of(attribute), kind, operator, value)} and {has(attribute)} == true)"


def _one_of(attribute: str, kind: str, values: tuple[Scalar, ...]) -> str:
    literals = [_literal(kind, value) for value in values if value is not None and value != _LEAST]
    listed = ", ".join(literal for literal in literals if literal is not None)
    parts = [f"({value_of(attribute)} in [{listed}] and {has(attribute)} == true)"] if listed else []
    parts += [_known(attribute, kind, "==", _LEAST)] if _LEAST in values else []
    parts += [f"{has(attribute)} == false"] if None in values else []
    return f"({' or '.join(parts)})" if parts else _NEVER


def _comparison(field: str, kind: str, operator: str, value: Any) -> str:
    if kind == "bool":
        allowed = ", ".join(str(held).lower() for held in (False, True) if _COMPARE[operator](held, value))
        return f"{field} in [{allowed}]"
    if isinstance(value, float) and math.isinf(value):  # no value of an entry is infinite
        return _ALWAYS if _COMPARE[operator](0, value) else _NEVER
    if kind == "int":
        return _integer(field, operator, value)
    literal = _literal(kind, value)
    return f"{field} {operator} {literal}"


def _integer(field: str, operator: str, value: float) -> str:
    """An integer field beside any number: the server compares it with integers of 64 bits only."""
    if operator == "==" and value != int(value):
        return _NEVER
    whole = math.ceil(value) if operator in ("<", ">=") else math.floor(value)
    if not _LEAST <= whole < -_LEAST:
        return _ALWAYS if _COMPARE[operator](0, whole) else _NEVER
    if whole == _LEAST:
        least = f"{field} < {_LEAST + 1}"
        return {"<": _NEVER, "<=": least, "==": least, ">": f"not ({least})", ">=": _ALWAYS}[operator]
    return f"{field} {operator} {whole}"


def _literal(kind: str, value: Any) -> str | None:
    """How a value is written; None if nothing can equal it."""
    if kind == "str":
        return json.dumps(value, ensure_ascii=False)
    if kind == "bool":
        return str(value).lower()
    if isinstance(value, float) and (math.isinf(value) or (kind == "int" and value != int(value))):
        return None
    if kind == "float":
        return repr(float(value))
    return str(int(value)) if _LEAST < value < -_LEAST else None
