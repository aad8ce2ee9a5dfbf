"""Prototypes: a point or a direction stands for each class, and scores of classes are how near it is."""

from __future__ import annotations

from torch import Tensor

__all__ = ["margin_scores", "prototype_scores", "squared_distance"]


def squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2, by a matrix product around the mean of ``y``, which costs no digits where all lie far from 0.

    Args:
        x: Points, shape (m, e).
        y: Points, shape (n, e), at least one.

    Returns:
        Shape (m, n); where points coincide, 0 up to rounding, on either side.

    Example:
        >>> import torch
        >>> squared_distance(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)).tolist()
        [[25.0]]
    """
    centre = y.mean(dim=0).detach()  # a constant, as distances do not depend on it
    x, y = x - centre, y - centre
    return (x**2).sum(dim=1)[:, None] + (y**2).sum(dim=1) - 2 * x @ y.T


def prototype_scores(z: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """Scores of classes: s_ik = -|z_i - C_k|^2 / temperature.

    Their softmax is the assignment of PAN, and its cross-entropy the distance-based loss (DCE), whose gradient in z_i
    is sum_k (softmax_k(s_i) - y_ik) 2 (C_k - z_i) / temperature.

    Args:
        z: Latent features, shape (m, e).
        prototypes: C, shape (c, e).
        temperature: > 0, in squared units of z. Of points of 512 features that were not scaled, a temperature of 1
            makes the softmax one-hot from the start.

    Returns:
        Shape (m, c).

    Paper: Zeng et al., PAN, SIGIR 2021, as its first author restates it; Yang et al., CVPR 2018 (DCE).
    Reference code: none of PAN; zhixiongz/CLIP4CMR restates it (not used).

    Example:
        >>> import torch
        >>> prototype_scores(torch.zeros(1, 2), torch.eye(2), temperature=2.0).tolist()
        [[-0.5, -0.5]]
    """
    return -squared_distance(z, prototypes) / temperature


def margin_scores(cosine: Tensor, labels: Tensor, scale: float, intra: float, inter: float) -> Tensor:
    """Scores of classes by angle, which must be right by a margin.

        s_ik = scale (cos_ik - intra y_ik + inter (1 - y_ik))

    Their cross-entropy is that of a normalised softmax whose own class starts ``intra`` lower and others ``inter``
    higher.

    Args:
        cosine: Of latent features and prototypes, shape (m, c).
        labels: y, multi-hot, shape (m, c), float.
        scale: Factor of the cosine.
        intra: Margin to the own class, >= 0.
        inter: Margin to the others, >= 0.

    Returns:
        Shape (m, c).

    Paper: Zeng et al., MCCN, ACM MM 2021: a reading of its abstract; margins as in CosFace, CVPR 2018.
    Reference code: no reference implementation.

    Example:
        >>> import torch
        >>> margin_scores(torch.zeros(1, 2), torch.eye(2)[:1], scale=10.0, intra=0.5, inter=0.1).tolist()
        [[-5.0, 1.0]]
    """
    return scale * (cosine - intra * labels + inter * (1 - labels))
