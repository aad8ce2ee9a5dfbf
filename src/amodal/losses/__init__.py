"""Pure functions of tensors, each with its formula and source."""

from amodal.losses.bottleneck import bernoulli_kl, gaussian_kl, reconstruction
from amodal.losses.contrastive import kernel, nt_xent, supervised_contrastive
from amodal.losses.guesses import HalfGaussians, guessed_similarity, weighted_agreement
from amodal.losses.likelihood import pair_likelihood
from amodal.losses.margin import margin_distance
from amodal.losses.relations import jaccard, propagated, share_label, share_probability

__all__ = [
    "HalfGaussians",
    "bernoulli_kl",
    "gaussian_kl",
    "guessed_similarity",
    "jaccard",
    "kernel",
    "margin_distance",
    "nt_xent",
    "pair_likelihood",
    "propagated",
    "reconstruction",
    "share_label",
    "share_probability",
    "supervised_contrastive",
    "weighted_agreement",
]
