"""amodal: cross-modal retrieval that learns from incomplete data."""

from amodal._version import __version__

__all__ = ["__version__"]
