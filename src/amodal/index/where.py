"""Filters: which entries a search, a count or a listing is about.

A filter is a small tree over the declared attributes of an index, written in Python, as text or as a mapping. These
three are the same:

    (Field("modality") == "image") & (Field("year") >= 1990)
    'modality == "image" and year >= 1990'
    {"modality": "image", "year": {">=": 1990}}

Of an attribute that holds several texts one is asked for: ``Field("labels").has("cat")``, ``"cat" in labels`` or
``{"labels": {"has": "cat"}}``; a list in the place of the text asks for any of them.

A missing value (None) equals only None, and no order holds for it: ``year < 1990`` is false where the year is missing,
and ``not year < 1990`` therefore true. Texts are ordered by code point.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from amodal.errors import UsageError, nearest
from amodal.index.spec import ATTRIBUTE_TYPES, Scalar

__all__ = ["And", "Compare", "Field", "Has", "Not", "OneOf", "Or", "Where", "check", "parse"]

_OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_DEEPEST = 200  # SQLite refuses 1,000
_MOST_VALUES = 30_000  # SQLite binds at most 32,766 values
_GRAMMAR = 'Write it like: modality == "image" and (year >= 1990 or tag in ["red", "blue"]).'


class Where:
    """A filter. Combine with ``&``, ``|`` and ``~``."""

    def __and__(self, other: Where) -> Where:
        return And(self, other)

    def __or__(self, other: Where) -> Where:
        return Or(self, other)

    def __invert__(self) -> Where:
        return Not(self)

    def __bool__(self) -> bool:
        raise UsageError("a filter is neither true nor false by itself: combine filters with &, | and ~.")


@dataclass(frozen=True)
class Compare(Where):
    """An attribute beside a value; ``operator`` is one of == != < <= > >=."""

    attribute: str
    operator: str
    value: Scalar

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _plain(self.value))


@dataclass(frozen=True)
class OneOf(Where):
    """An attribute that equals one of several values."""

    attribute: str
    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(map(_plain, self.values)))


@dataclass(frozen=True)
class Has(Where):
    """An attribute of several texts, one of which is this."""

    attribute: str
    value: str


@dataclass(frozen=True)
class And(Where):
    """Both hold."""

    left: Where
    right: Where


@dataclass(frozen=True)
class Or(Where):
    """At least one holds."""

    left: Where
    right: Where


@dataclass(frozen=True)
class Not(Where):
    """It does not hold."""

    part: Where


@dataclass(frozen=True, eq=False)
class Field:
    """An attribute by name, to write filters with.

    Attributes:
        name: Its name.

    Example:
        >>> Field("year") >= 1990
        Compare(attribute='year', operator='>=', value=1990)
        >>> Field("modality").isin(["image", "sketch"])
        OneOf(attribute='modality', values=('image', 'sketch'))
    """

    name: str

    def __eq__(self, value: Any) -> Where:  # type: ignore[override]
        return Compare(self.name, "==", value)

    def __ne__(self, value: Any) -> Where:  # type: ignore[override]
        return Compare(self.name, "!=", value)

    def __lt__(self, value: Any) -> Where:
        return Compare(self.name, "<", value)

    def __le__(self, value: Any) -> Where:
        return Compare(self.name, "<=", value)

    def __gt__(self, value: Any) -> Where:
        return Compare(self.name, ">", value)

    def __ge__(self, value: Any) -> Where:
        return Compare(self.name, ">=", value)

    __hash__ = None  # type: ignore[assignment]

    def isin(self, values: Iterable[Scalar]) -> Where:
        """The attribute equals one of the values."""
        return OneOf(self.name, tuple(values))

    def has(self, value: str) -> Where:
        """One of the attribute's several texts is this."""
        return Has(self.name, value)


def parse(where: Where | str | Mapping[str, Any]) -> Where:
    """A filter from a tree, a text or a mapping.

    Args:
        where: A ``Where``; or a text with ``== != < <= > >= in``, ``not in``, ``and``, ``or``, ``not``, brackets,
            texts in quotes, numbers, ``True``, ``False`` and ``None``, and ``"cat" in labels``; or a mapping whose
            entries must all hold: attribute to value, to a list of values, or to a mapping of operators to values.

    Returns:
        The tree, its attributes not yet checked.

    Raises:
        UsageError: If it cannot be read; says which part.

    Example:
        >>> parse("1990 <= year < 2000")
        And(left=Compare(attribute='year', operator='>=', value=1990), \
right=Compare(attribute='year', operator='<', value=2000))
    """
    if isinstance(where, Where):
        return where
    if isinstance(where, str):
        try:
            return _from_node(ast.parse(where.strip(), mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"cannot read the filter {where!r}. {_GRAMMAR}") from None
    if isinstance(where, Mapping) and where:
        return _all(part for name, value in where.items() for part in _from_entry(name, value))
    raise UsageError(f"a filter is a Where, a text or a non-empty mapping; got {where!r}. {_GRAMMAR}")


def check(where: Where, attributes: Mapping[str, str], *, depth: int = 0) -> Where:
    """The same filter, if every attribute is declared and every value has its type.

    Args:
        where: The filter.
        attributes: Declared attributes and their types, as in ``IndexSpec.attributes``.
        depth: How deep in a larger filter this one stands.

    Returns:
        ``where``.

    Raises:
        UsageError: If an attribute is unknown (names the nearest), a value does not fit its type, or the tree is too
            deep for a database.
    """
    if depth > _DEEPEST:
        raise UsageError(f"the filter is nested more than {_DEEPEST} deep; for many values of one attribute use in.")
    match where:
        case And(left, right) | Or(left, right):
            check(left, attributes, depth=depth + 1)
            check(right, attributes, depth=depth + 1)
        case Not(part):
            check(part, attributes, depth=depth + 1)
        case OneOf(attribute, values):
            if len(values) > _MOST_VALUES:
                raise UsageError(f"a filter takes at most {_MOST_VALUES} values at once; got {len(values)}.")
            for value in values:
                _check_value(attribute, "==", value, attributes)
        case Compare(attribute, operator, value):
            if operator not in _MIRRORED:
                raise UsageError(nearest(operator, _MIRRORED, what="operator"))
            _check_value(attribute, operator, value, attributes)
        case Has(attribute, value):
            _check_has(attribute, value, attributes)
        case _:
            raise UsageError(f"{where!r} is not a filter. {_GRAMMAR}")
    return where


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _check_value(attribute: str, operator: str, value: Scalar, attributes: Mapping[str, str]) -> None:
    if attribute not in attributes:
        raise UsageError(nearest(attribute, attributes, what="attribute"))
    kind = attributes[attribute]
    if value is None and operator in ("==", "!="):
        return
    if kind == "texts":
        raise UsageError(f'attribute "{attribute}" holds several texts; ask for one of them: "..." in {attribute}.')
    numbers = (int, float)
    if type(value) not in (numbers if kind in ("int", "float") else ATTRIBUTE_TYPES[kind]):
        raise UsageError(f'attribute "{attribute}" is of type {kind}; it cannot be compared ({operator}) to {value!r}.')
    if isinstance(value, float) and math.isnan(value):
        raise UsageError(f'attribute "{attribute}" cannot be compared to NaN; where there is no value it is None.')
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise UsageError(f'attribute "{attribute}": {value} does not fit 64 bits.')


def _check_has(attribute: str, value: Any, attributes: Mapping[str, str]) -> None:
    if attribute not in attributes:
        raise UsageError(nearest(attribute, attributes, what="attribute"))
    if attributes[attribute] != "texts":
        raise UsageError(f'attribute "{attribute}" holds one value, not several texts: compare it with == or in [...].')
    if not isinstance(value, str):
        raise UsageError(f'attribute "{attribute}" holds texts; it cannot have {value!r}.')


def _from_entry(name: str, value: Any) -> Iterable[Where]:
    """The filters that one entry of a mapping stands for."""
    if isinstance(value, Mapping):
        return [_of_operator(name, operator, one) for operator, one in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [OneOf(name, tuple(value))]
    return [Compare(name, "==", value)]


def _of_operator(name: str, operator: str, value: Any) -> Where:
    match operator:
        case "in":
            return OneOf(name, tuple(value))
        case "has":
            texts = value if isinstance(value, list | tuple) and value else [value]
            return _fold(Or, [Has(name, one) for one in texts])
    return Compare(name, operator, value)


def _from_node(node: ast.expr) -> Where:
    """The filter that a parsed text stands for."""
    match node:
        case ast.BoolOp(op, values):
            parts = [_from_node(value) for value in values]
            return _all(parts) if isinstance(op, ast.And) else _fold(Or, parts)
        case ast.UnaryOp(ast.Not(), operand):
            return Not(_from_node(operand))
        case ast.Compare(left, operators, comparators):
            sides = [left, *comparators]
            return _all(_comparison(a, op, b) for a, op, b in zip(sides, operators, sides[1:], strict=False))
    raise UsageError(f"cannot read {ast.unparse(node)!r} as a filter. {_GRAMMAR}")


def _comparison(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Where:
    match left, operator, right:
        case ast.Name(name), ast.In() | ast.NotIn(), ast.List(elements) | ast.Tuple(elements) | ast.Set(elements):
            found = OneOf(name, tuple(_value(element) for element in elements))
            return found if isinstance(operator, ast.In) else Not(found)
        case ast.Constant(str() as value), ast.In() | ast.NotIn(), ast.Name(name):
            return Has(name, value) if isinstance(operator, ast.In) else Not(Has(name, value))
        case ast.Name(name), _, _ if type(operator) in _OPERATORS:
            return Compare(name, _OPERATORS[type(operator)], _value(right))
        case _, _, ast.Name(name) if type(operator) in _OPERATORS:
            return Compare(name, _MIRRORED[_OPERATORS[type(operator)]], _value(left))
    raise UsageError(f"cannot read {ast.unparse(left)!r} beside {ast.unparse(right)!r} as a filter. {_GRAMMAR}")


def _value(node: ast.expr) -> Scalar:
    match node:
        case ast.Constant(None | str() | int() | float() as value):
            return value
        case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as value)):
            return -value
        case ast.Name(name):
            raise UsageError(f'{name} stands where a value belongs; texts need quotes: "{name}".')
    raise UsageError(f"{ast.unparse(node)!r} is not a value. {_GRAMMAR}")


def _all(parts: Iterable[Where]) -> Where:
    return _fold(And, list(parts))


def _fold(join: Callable[[Where, Where], Where], parts: list[Where]) -> Where:
    folded = parts[0]
    for part in parts[1:]:
        folded = join(folded, part)
    return folded
