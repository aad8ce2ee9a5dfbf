"""Pure functions of tensors, each with its formula and source."""

from amodal.losses.adversarial import (
    discriminator_loss,
    fooling_loss,
    gradient_penalty,
    least_squares_discriminator,
    least_squares_fooling,
    wasserstein_gap,
)
from amodal.losses.bottleneck import bernoulli_kl, gaussian_kl, reconstruction
from amodal.losses.contrastive import kernel, nt_xent, supervised_contrastive
from amodal.losses.decorrelation import factorisation
from amodal.losses.gaps import absolute_gap, class_gaussians, gaussian_gap, squared_gap
from amodal.losses.guesses import HalfGaussians, guessed_similarity, weighted_agreement
from amodal.losses.invariance import (
    attention_spread,
    compactness,
    environment_mean,
    invariance_penalty,
    scaling_gradient,
)
from amodal.losses.labels import label_nll
from amodal.losses.likelihood import pair_likelihood
from amodal.losses.margin import margin_distance
from amodal.losses.matching import matching_hinge, pair_contrast, preference
from amodal.losses.prototypes import margin_scores, prototype_scores, squared_distance
from amodal.losses.proxies import proxy_anchor
from amodal.losses.relations import jaccard, propagated, share_label, share_probability
from amodal.losses.triplets import graded_relevance, hardest_triplet, triplet_loss

__all__ = [
    "HalfGaussians",
    "absolute_gap",
    "attention_spread",
    "bernoulli_kl",
    "class_gaussians",
    "compactness",
    "discriminator_loss",
    "environment_mean",
    "factorisation",
    "fooling_loss",
    "gaussian_gap",
    "gaussian_kl",
    "graded_relevance",
    "gradient_penalty",
    "guessed_similarity",
    "hardest_triplet",
    "invariance_penalty",
    "jaccard",
    "kernel",
    "label_nll",
    "least_squares_discriminator",
    "least_squares_fooling",
    "margin_distance",
    "margin_scores",
    "matching_hinge",
    "nt_xent",
    "pair_contrast",
    "pair_likelihood",
    "preference",
    "propagated",
    "prototype_scores",
    "proxy_anchor",
    "reconstruction",
    "scaling_gradient",
    "share_label",
    "share_probability",
    "squared_distance",
    "squared_gap",
    "supervised_contrastive",
    "triplet_loss",
    "wasserstein_gap",
    "weighted_agreement",
]
