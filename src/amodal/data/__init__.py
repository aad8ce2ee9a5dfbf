"""Data with gaps: items, observations, labels, readers, and incompleteness as a pure function."""

from amodal.data.confounding import cue_agreement, cue_directions, plant_directions, plant_words
from amodal.data.dataset import Dataset
from amodal.data.drawing import draw
from amodal.data.findings import Finding, check
from amodal.data.incompleteness import incomplete, unalign
from amodal.data.labels import Labels
from amodal.data.mask import Mask
from amodal.data.mechanisms import MECHANISMS
from amodal.data.noise import WrongLabels
from amodal.data.observations import Observations
from amodal.data.pairing import WrongPairs
from amodal.data.pictures import openable
from amodal.data.readers import READERS, pick, read, regdb_trial, save_archive
from amodal.data.settings import NAMED as SETTINGS
from amodal.data.splits import hold_out, random_split
from amodal.data.summary import Summary, describe
from amodal.data.synthetic import toy, write_large

__all__ = [
    "MECHANISMS",
    "READERS",
    "SETTINGS",
    "Dataset",
    "Finding",
    "Labels",
    "Mask",
    "Observations",
    "Summary",
    "WrongLabels",
    "WrongPairs",
    "check",
    "cue_agreement",
    "cue_directions",
    "describe",
    "draw",
    "hold_out",
    "incomplete",
    "openable",
    "pick",
    "plant_directions",
    "plant_words",
    "random_split",
    "read",
    "regdb_trial",
    "save_archive",
    "toy",
    "unalign",
    "write_large",
]
