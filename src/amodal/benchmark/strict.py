"""YAML into dataclasses: a key that is unknown, repeated or missing, or a value of another kind, is an error."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml

from amodal.errors import UsageError, nearest

__all__ = ["LINES", "parse"]

T = TypeVar("T")

LINES = "lines"
"""A field of this name takes, where a dataclass has it, the line on which each of its keys stands."""


def parse(path: Path, kind: type[T]) -> T:
    """Read a YAML file as a dataclass.

    Fields may be text, numbers, booleans, None, tuples of one kind, mappings to anything, and dataclasses.

    Args:
        path: The file.
        kind: The dataclass.

    Raises:
        UsageError: Naming file, line and the nearest right key, if the file does not fit the dataclass.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error}).") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f", line {mark.line + 1}"
        raise UsageError(f"{path}{place}: is not valid YAML ({getattr(error, 'problem', error)}).") from error
    if node is None:
        raise UsageError(f"{path}: is empty.")
    return cast("T", _Reading(path).value(node, kind, "the file"))


class _Reading:
    """One file, for messages."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def wrong(self, node: yaml.Node, sentence: str) -> UsageError:
        return UsageError(f"{self.path}, line {node.start_mark.line + 1}: {sentence}")

    def value(self, node: yaml.Node, kind: Any, key: str) -> Any:
        """A node as a value of a kind."""
        if get_origin(kind) in (types.UnionType, Union):
            options = get_args(kind)
            if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null" and type(None) in options:
                return None
            return self.value(node, next(option for option in options if option is not type(None)), key)
        if isinstance(kind, type) and is_dataclass(kind):
            return self.record(node, kind, key)
        if get_origin(kind) is tuple:
            if not isinstance(node, yaml.SequenceNode):
                raise self.wrong(node, f'"{key}" must be a list.')
            return tuple(self.value(part, get_args(kind)[0], key) for part in node.value)
        if get_origin(kind) in (Mapping, dict):
            inner = get_args(kind)[1]
            return {name: self.value(part, inner, name) for name, part in self.pairs(node, key).items()}
        return self.plain(node, kind, key)

    def plain(self, node: yaml.Node, kind: Any, key: str) -> Any:
        """Text, a number, a boolean; or anything, where the kind says so."""
        loader = yaml.SafeLoader("")
        found = loader.construct_object(node, deep=True)
        if kind is float and type(found) is int:
            return float(found)
        if kind is Any or type(found) is kind:
            return found
        raise self.wrong(node, f'"{key}" must be {_NAMES[kind]}; got {found!r}.')

    def pairs(self, node: yaml.Node, key: str) -> dict[str, yaml.Node]:
        """Keys and their values; each key once."""
        if not isinstance(node, yaml.MappingNode):
            raise self.wrong(node, f"{_quoted(key)} must have keys with values.")
        found: dict[str, yaml.Node] = {}
        for name, part in node.value:
            if str(name.value) in found:
                raise self.wrong(name, f'key "{name.value}" stands here twice.')
            found[str(name.value)] = part
        return found

    def record(self, node: yaml.Node, kind: type[Any], key: str) -> Any:
        """A mapping as a dataclass."""
        pairs = self.pairs(node, key)
        known = {field.name: field for field in fields(kind) if field.name != LINES}
        for name, _ in node.value:
            if name.value not in known:
                raise self.wrong(name, nearest(str(name.value), known, what="key"))
        for name, field in known.items():
            if name not in pairs and field.default is MISSING and field.default_factory is MISSING:
                raise self.wrong(node, f'{_quoted(key)} has no "{name}".')
        hints = get_type_hints(kind)
        values = {name: self.value(part, hints[name], name) for name, part in pairs.items()}
        if LINES in hints:
            values[LINES] = {"": node.start_mark.line + 1, **{n.value: n.start_mark.line + 1 for n, _ in node.value}}
        return kind(**values)


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _quoted(key: str) -> str:
    return key if key == "the file" else f'"{key}"'
