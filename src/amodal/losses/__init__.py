"""Pure functions of tensors, each with its formula and source."""

from amodal.losses.bottleneck import gaussian_kl, reconstruction
from amodal.losses.contrastive import kernel, nt_xent, supervised_contrastive
from amodal.losses.likelihood import pair_likelihood
from amodal.losses.relations import propagated, share_label, share_probability

__all__ = [
    "gaussian_kl",
    "kernel",
    "nt_xent",
    "pair_likelihood",
    "propagated",
    "reconstruction",
    "share_label",
    "share_probability",
    "supervised_contrastive",
]
