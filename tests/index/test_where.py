"""Reading filters. What they mean is tested on every backend in tests/contracts/test_index.py."""

import pytest

from amodal.errors import UsageError
from amodal.index.where import And, Compare, Field, Has, Not, OneOf, Or, check, parse

A, B = Compare("a", "==", 1), Compare("b", "<", "x")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ('a == 1 and b < "x"', And(A, B)),
        (" a==1 or b<'x' ", Or(A, B)),
        ("not a == 1", Not(A)),
        ("not (a == 1 or b < 'x') and a == 1", And(Not(Or(A, B)), A)),
        ("1 == a", A),
        ("1 < a", Compare("a", ">", 1)),
        ("1 <= a < 3", And(Compare("a", ">=", 1), Compare("a", "<", 3))),
        ("a in (1, -2, 3.5)", OneOf("a", (1, -2, 3.5))),
        ("a not in ['x', None]", Not(OneOf("a", ("x", None)))),
        ("a == True", Compare("a", "==", True)),
        ("'x' in a", Has("a", "x")),
        ("'x' not in a", Not(Has("a", "x"))),
    ],
)
def test_texts(text, tree):
    assert parse(text) == tree


def test_mappings():
    assert parse({"a": 1, "b": {"<": "x"}}) == And(A, B)
    assert parse({"a": {"has": "x"}}) == Has("a", "x") == Field("a").has("x")
    assert parse({"a": {"has": ["x", "y"]}}) == Or(Has("a", "x"), Has("a", "y"))
    assert parse({"a": [1, 2]}) == OneOf("a", (1, 2))
    assert parse({"a": {"in": [1], "!=": 3}}) == And(OneOf("a", (1,)), Compare("a", "!=", 3))


def test_python():
    field = Field("a")
    assert (field == 1) & (Field("b") < "x") == And(A, B)
    assert ~(field == 1) | (Field("b") < "x") == Or(Not(A), B)
    assert [(field != 1).operator, (field <= 1).operator, (field > 1).operator, (field >= 1).operator] == [
        "!=",
        "<=",
        ">",
        ">=",
    ]
    with pytest.raises(UsageError, match="&"):
        assert (field == 1) and (field == 2)
    with pytest.raises(UsageError, match="&"):
        assert 1 < field < 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = 1", "cannot read the filter"),
        ("", "cannot read the filter"),
        ("a == red", 'texts need quotes: "red"'),
        ("a", "cannot read 'a'"),
        ("1 == 2", "cannot read '1' beside '2'"),
        ("f(a) == 1", "cannot read"),
        ("a == f(1)", "not a value"),
        ("a == 1j", "not a value"),
        ("a in b", "cannot read"),
        ("a is None", "cannot read"),
        ("__import__('os').system('true')", "cannot read"),
        ("(" * 500 + "a == 1", "cannot read the filter"),
        ({}, "non-empty mapping"),
        (17, "is a Where"),
    ],
)
def test_what_is_no_filter(text, words):
    with pytest.raises(UsageError, match=words):
        parse(text)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("yaer == 1", 'Did you mean "year"'),
        ("not (year == 1 or name == 3)", '"name" is of type str'),
        ("public == 1", "type bool"),
        ("year == True", "type int"),
        ("year < None", "type int"),
        ("year in [1, 'x']", "'x'"),
        ("year == 9223372036854775808", "64 bits"),
        (Field("year") < float("nan"), "NaN"),
        ({"year": {"~": 1}}, 'unknown operator "~"'),
        ("'x' in yaer", 'Did you mean "year"'),
        ({"kinds": {"has": 3}}, "cannot have 3"),
        ({"kinds": {"has": []}}, "cannot have"),
        ("kinds in ['x']", '"..." in kinds'),
        ({"year": list(range(30_001))}, "at most 30000"),
        (" or ".join(f"year == {year}" for year in range(300)), "use in"),
    ],
)
def test_what_does_not_fit_the_attributes(where, words):
    with pytest.raises(UsageError, match=words):
        check(parse(where), {"year": "int", "name": "str", "public": "bool", "kinds": "texts"})
