"""Filters as conditions of PostgreSQL, every value bound."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from amodal.index.where import And, Compare, Has, Not, OneOf, Or, Where

__all__ = ["COLUMN_TYPES", "to_postgres"]

COLUMN_TYPES: Mapping[str, str] = {
    "str": 'text COLLATE "C"',  # by code point, whatever the database's language
    "int": "bigint",
    "float": "double precision",
    "bool": "boolean",
    "texts": "jsonb",
}


def to_postgres(where: Where | None, kinds: Mapping[str, str]) -> tuple[str, list[Any]]:
    """The condition and the values for its marks.

    Every condition is true or false, never unknown, so that missing values mean under ``NOT`` what
    ``amodal.index.where`` promises. Equality is written so that an index on the attribute can answer it.

    Args:
        where: A checked filter, or None for all entries.
        kinds: Declared attributes and their types, as in ``IndexSpec.attributes``.

    Returns:
        SQL text and values.

    Example:
        >>> from amodal.index.where import Field
        >>> to_postgres((Field("year") < 1990) & (Field("tag") == None), {"year": "int", "tag": "str"})
        ('(("year" < %s::bigint AND "year" IS NOT NULL) AND "tag" IS NULL)', [1990])
    """
    match where:
        case None:
            return "TRUE", []
        case Compare(attribute, "==", None):
            return f'"{attribute}" IS NULL', []
        case Compare(attribute, "!=", None):
            return f'"{attribute}" IS NOT NULL', []
        case Compare(attribute, "!=", value):
            kind, (bound,) = _bound(kinds[attribute], [value])
            return f'"{attribute}" IS DISTINCT FROM %s::{kind}', [bound]
        case Compare(attribute, operator, value):
            kind, (bound,) = _bound(kinds[attribute], [value])
            sign = "=" if operator == "==" else operator
            return f'("{attribute}" {sign} %s::{kind} AND "{attribute}" IS NOT NULL)', [bound]
        case OneOf(attribute, values):
            kind, present = _bound(kinds[attribute], [value for value in values if value is not None])
            condition = f'("{attribute}" = ANY(%s::{kind}[]) AND "{attribute}" IS NOT NULL)'
            return (f'({condition} OR "{attribute}" IS NULL)' if None in values else condition), [present]
        case Has(attribute, value):
            return f'("{attribute}" ? %s AND "{attribute}" IS NOT NULL)', [value]
        case And(left, right):
            return _joined("AND", left, right, kinds)
        case Or(left, right):
            return _joined("OR", left, right, kinds)
        case Not(part):
            condition, bound = to_postgres(part, kinds)
            return f"NOT ({condition})", bound
    raise TypeError(f"not a filter: {where!r}")


def _joined(word: str, left: Where, right: Where, kinds: Mapping[str, str]) -> tuple[str, list[Any]]:
    (first, some), (second, more) = to_postgres(left, kinds), to_postgres(right, kinds)
    return f"({first} {word} {second})", [*some, *more]


def _bound(kind: str, values: list[Any]) -> tuple[str, list[Any]]:
    """The type under which values are compared with an attribute, and the values as that type."""
    if kind == "float":
        return "double precision", [float(value) for value in values]
    if kind == "int" and any(isinstance(value, float) for value in values):
        return "numeric", [Decimal(value) for value in values]  # exact: not every bigint is a double
    return {"str": "text", "int": "bigint", "bool": "boolean"}[kind], values
