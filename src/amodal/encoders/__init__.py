"""Pictures and texts become features; beside the readers the only room that knows a modality by what it holds."""

from amodal.encoders.base import Encoder, Kind, Progress
from amodal.encoders.cache import CacheStats, FeatureCache
from amodal.encoders.encode import choose_encoders, cut_from, distinct_content, encode_dataset
from amodal.encoders.parts import Regions, Words
from amodal.encoders.registry import default_for, get, guess_kind, names
from amodal.encoders.tuned import ModuleEncoder

__all__ = [
    "CacheStats",
    "Encoder",
    "FeatureCache",
    "Kind",
    "ModuleEncoder",
    "Progress",
    "Regions",
    "Words",
    "choose_encoders",
    "cut_from",
    "default_for",
    "distinct_content",
    "encode_dataset",
    "get",
    "guess_kind",
    "names",
]
