"""Matchers: no vector per item, but a score for every pair, from the regions of one side and the words of the other."""

from amodal.methods.matching.base import Matcher
from amodal.methods.matching.explanation import Explanation

__all__ = ["Explanation", "Matcher"]
