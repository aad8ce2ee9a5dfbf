"""Data with gaps: items, observations, labels, readers, and incompleteness as a pure function."""

from amodal.data.dataset import Dataset
from amodal.data.labels import Labels
from amodal.data.observations import Observations

__all__ = ["Dataset", "Labels", "Observations"]
