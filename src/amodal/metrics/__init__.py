"""Pure functions from codes and labels to numbers: exact under ties, and without sorting where counting is enough.

The short way is :func:`average_precision`. The long way: a relevance rule (:func:`share_label`, :func:`pair`, ...),
:func:`measure` with measures by name, a :class:`Measurement`. Below lie level :class:`Histograms`, of which every
measure is a function.
"""

from amodal.metrics.average import average_precision, mean_average_precision
from amodal.metrics.cutoff import ndcg_at, precision_at, recall_at
from amodal.metrics.first import chance_hit, first_rank, hit_at, inp, median_rank, rsum
from amodal.metrics.identities import identity_hit_at
from amodal.metrics.labels import pack_labels
from amodal.metrics.levels import Histograms
from amodal.metrics.measurement import MEASURES, Measurement, measure, measure_scores
from amodal.metrics.precision import ap, ap_at, chance_ap
from amodal.metrics.radius import RadiusCurve, precision_within, radius_curve
from amodal.metrics.ranking import histograms, rank, rank_scores, stream
from amodal.metrics.relevance import Relevance, identity, judged, pair, same_label, share_label
from amodal.metrics.significance import holm, randomisation_test, sign_flip_test

__all__ = [
    "MEASURES",
    "Histograms",
    "Measurement",
    "RadiusCurve",
    "Relevance",
    "ap",
    "ap_at",
    "average_precision",
    "chance_ap",
    "chance_hit",
    "first_rank",
    "histograms",
    "hit_at",
    "holm",
    "identity",
    "identity_hit_at",
    "inp",
    "judged",
    "mean_average_precision",
    "measure",
    "measure_scores",
    "median_rank",
    "ndcg_at",
    "pack_labels",
    "pair",
    "precision_at",
    "precision_within",
    "radius_curve",
    "randomisation_test",
    "rank",
    "rank_scores",
    "recall_at",
    "rsum",
    "same_label",
    "share_label",
    "sign_flip_test",
    "stream",
]
