"""Filters as conditions of SQLite, every value bound."""

from __future__ import annotations

from amodal.index.spec import Scalar
from amodal.index.where import And, Compare, Has, Not, OneOf, Or, Where

__all__ = ["to_sql"]


def to_sql(where: Where | None) -> tuple[str, list[Scalar]]:
    """The condition and the values for its question marks.

    Every condition is true or false, never unknown: ``IS`` and ``IS NOT NULL`` give missing values the meaning that
    ``amodal.index.where`` promises, also under ``NOT``.

    Args:
        where: A checked filter, or None for all entries.

    Returns:
        SQL text and values.

    Example:
        >>> from amodal.index.where import Field
        >>> to_sql((Field("year") < 1990) & (Field("tag") == "red"))
        ('(("year" < ? AND "year" IS NOT NULL) AND "tag" IS ?)', [1990, 'red'])
    """
    match where:
        case None:
            return "TRUE", []
        case Compare(attribute, "==", value):
            return f'"{attribute}" IS ?', [value]
        case Compare(attribute, "!=", value):
            return f'"{attribute}" IS NOT ?', [value]
        case Compare(attribute, operator, value):
            return f'("{attribute}" {operator} ? AND "{attribute}" IS NOT NULL)', [value]
        case OneOf(attribute, values):
            present: list[Scalar] = [value for value in values if value is not None]
            marks = ", ".join("?" * len(present))
            condition = f'("{attribute}" IN ({marks}) AND "{attribute}" IS NOT NULL)'
            return (f'({condition} OR "{attribute}" IS NULL)' if None in values else condition), present
        case Has(attribute, value):
            return f'EXISTS (SELECT 1 FROM json_each("{attribute}") WHERE value = ?)', [value]  # noqa: S608
        case And(left, right):
            return _joined("AND", left, right)
        case Or(left, right):
            return _joined("OR", left, right)
        case Not(part):
            condition, bound = to_sql(part)
            return f"NOT ({condition})", bound
    raise TypeError(f"not a filter: {where!r}")


def _joined(word: str, left: Where, right: Where) -> tuple[str, list[Scalar]]:
    (first, some), (second, more) = to_sql(left), to_sql(right)
    return f"({first} {word} {second})", [*some, *more]
