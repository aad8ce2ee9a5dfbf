"""How good it is, said honestly: protocols, their application to data, measurements, and records."""

from amodal.evaluation.arrange import Arrangement, arrange
from amodal.evaluation.control import CONTROL, evaluate_control
from amodal.evaluation.evaluate import (
    encode_items,
    encode_roles,
    evaluate,
    evaluate_codes,
    save_codes,
)
from amodal.evaluation.evaluation import Evaluation
from amodal.evaluation.gallery import GALLERY_PROTOCOLS, GalleryProtocol
from amodal.evaluation.gallery import get as get_gallery_protocol
from amodal.evaluation.judgments import Judgments, judge
from amodal.evaluation.protocol import PROTOCOLS, PairProtocol, Protocol
from amodal.evaluation.protocol import get as get_protocol
from amodal.evaluation.reidentification import GalleryEvaluation, evaluate_gallery, evaluate_gallery_codes
from amodal.evaluation.results import environment, read_record, record

__all__ = [
    "CONTROL",
    "GALLERY_PROTOCOLS",
    "PROTOCOLS",
    "Arrangement",
    "Evaluation",
    "GalleryEvaluation",
    "GalleryProtocol",
    "Judgments",
    "PairProtocol",
    "Protocol",
    "arrange",
    "encode_items",
    "encode_roles",
    "environment",
    "evaluate",
    "evaluate_codes",
    "evaluate_control",
    "evaluate_gallery",
    "evaluate_gallery_codes",
    "get_gallery_protocol",
    "get_protocol",
    "judge",
    "read_record",
    "record",
    "save_codes",
]
