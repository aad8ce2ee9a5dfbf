"""The second step of a cascade: a matcher puts in order what codes recalled, and says why."""

from amodal.reranking.fragments import FragmentStore, Kept
from amodal.reranking.reranker import Reranker
from amodal.reranking.why import Why

__all__ = ["FragmentStore", "Kept", "Reranker", "Why"]
