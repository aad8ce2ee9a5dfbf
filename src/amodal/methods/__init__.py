"""What learns: one published method per file."""

from amodal.methods.base import Method
from amodal.methods.card import Card
from amodal.methods.registry import get, names
from amodal.methods.saving import load, save

__all__ = ["Card", "Method", "get", "load", "names", "save"]
