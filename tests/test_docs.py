"""Documentation cannot go stale: examples run, every public name says what it is, arguments are those there are."""

import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re
from dataclasses import is_dataclass

import pytest

import amodal

MODULES = sorted(found.name for found in pkgutil.walk_packages(amodal.__path__, "amodal."))


def section(thing, title):
    """The names that a section of a docstring describes; None if there is no such section."""
    text = re.search(rf"^{title}:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(thing.__doc__), re.MULTILINE | re.DOTALL)
    if text is None:
        return None
    groups = re.findall(r"^    \*{0,2}(\w+(?:, \w+)*):", text[1], re.MULTILINE)
    return sorted(name for group in groups for name in group.split(", "))


def parameters(function, *, variadic=True):
    found = {name: one.kind for name, one in inspect.signature(function).parameters.items()}
    stars = () if variadic else (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return sorted(name for name, kind in found.items() if name not in ("self", "cls") and kind not in stars)


def own(module):
    """Functions and classes that a module defines and makes public, by name."""
    public = {name: getattr(module, name) for name in getattr(module, "__all__", ())}
    return {
        name: thing
        for name, thing in public.items()
        if (inspect.isfunction(thing) or inspect.isclass(thing)) and thing.__module__ == module.__name__
    }


def members(owner):
    """Public methods and properties that a class defines itself, by name."""
    found = {name: getattr(value, "__func__", value) for name, value in vars(owner).items() if name[0] != "_"}
    return {name: value for name, value in found.items() if inspect.isfunction(value) or isinstance(value, property)}


def exported():
    """Functions and classes that a room offers at its door, by full name."""
    rooms = [module for module in map(importlib.import_module, ["amodal", *MODULES]) if hasattr(module, "__path__")]
    things = [getattr(room, name) for room in rooms for name in getattr(room, "__all__", ())]
    things = [thing for thing in things if inspect.isfunction(thing) or inspect.isclass(thing)]
    return {f"{thing.__module__}.{thing.__qualname__}": thing for thing in things}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0


def test_there_are_examples():
    assert sum(">>>" in (importlib.import_module(name).__loader__.get_source(name) or "") for name in MODULES) > 20


@pytest.mark.parametrize("name", MODULES)
def test_public_names_say_what_they_are(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for symbol, thing in own(module).items():
        assert thing.__doc__, symbol
        assert not thing.__doc__.startswith(f"{symbol}("), f"{symbol} has only the docstring that dataclasses give"
        for member, value in members(thing).items() if inspect.isclass(thing) else ():
            assert value.__doc__, f"{symbol}.{member}"


@pytest.mark.parametrize("name", MODULES)
def test_described_arguments_are_those_there_are(name):
    for symbol, thing in own(importlib.import_module(name)).items():
        things = {symbol: thing.__init__ if inspect.isclass(thing) else thing}
        if inspect.isclass(thing):
            things |= {f"{symbol}.{member}": value for member, value in members(thing).items()}
        for full, function in things.items():
            # a constructor's arguments stand in the docstring of its class
            described = section(thing if full == symbol else function, "Args")
            if described is not None:
                assert set(parameters(function, variadic=False)) <= set(described) <= set(parameters(function)), full


def test_what_a_room_offers_describes_every_argument():
    """A function of one argument may say it in its first line; Protocols and abstract classes are never called."""
    for name, thing in exported().items():
        if inspect.isfunction(thing):
            if len(parameters(thing)) > 1:
                assert section(thing, "Args") is not None, name
        elif is_dataclass(thing):
            fields = sorted(set(thing.__annotations__) & {one.name for one in dataclasses.fields(thing)})
            assert (section(thing, "Attributes") or []) == fields, name
        elif "__init__" in vars(thing) and len(parameters(thing.__init__)) > 1:
            assert section(thing, "Args") is not None or getattr(thing, "_is_protocol", False), name
