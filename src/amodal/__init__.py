"""amodal: cross-modal retrieval that learns from incomplete data.

    import amodal
    items = amodal.read("catalogue.parquet")              # columns id, image, text, labels; gaps welcome
    shop = amodal.Retriever(method="cich", bits=64).fit(items)
    shop.search(text="red canvas shoes", k=10)            # or image=..., id=..., vector=...
    shop.save("shop.amodal")

Names are loaded when they are used: importing the package loads neither torch nor FAISS.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from amodal._version import __version__

if TYPE_CHECKING:
    from amodal import benchmark, data, encoders, errors, evaluation, index, losses, methods, metrics, training
    from amodal.codes import BinaryCodes, Embeddings
    from amodal.data import Dataset, incomplete, read
    from amodal.retriever import Match, Retriever

_HOME = {
    "BinaryCodes": "amodal.codes",
    "Dataset": "amodal.data",
    "Embeddings": "amodal.codes",
    "Match": "amodal.retriever",
    "Retriever": "amodal.retriever",
    "incomplete": "amodal.data",
    "read": "amodal.data",
}
_ROOMS = (
    "benchmark", "data", "encoders", "errors", "evaluation", "index", "losses", "methods", "metrics", "training",
)  # fmt: skip

__all__ = [
    "BinaryCodes",
    "Dataset",
    "Embeddings",
    "Match",
    "Retriever",
    "__version__",
    "benchmark",
    "data",
    "encoders",
    "errors",
    "evaluation",
    "incomplete",
    "index",
    "losses",
    "methods",
    "metrics",
    "read",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"amodal.{name}")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'amodal' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
