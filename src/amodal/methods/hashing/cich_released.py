"""The objective of CICH's released code, which differs from the paper's in form and scale.

For a batch of modality a against memories of all training rows (sums throughout; S: share a label, sp: softplus):

    sum_ij (S_ij t_ij - sp(t_ij))^2,  t = <h_i, P_j> / 2                      the square of the likelihood
    + sum_b sum_i sum_{j in O_b and R} bce(sigma(<h_i, H^b_j> / 2), S'_ij)    a sigmoid taken as a logit; no softmax
    + 50 [ sum_ik bce(q_ab(f_i)_k, sigma(F^b_ik)) + 0.01 sum KL_i ]           pairs; one predictor, no neighbours
    + 0.01 sum |h_i - B_i|^2
    prototypes: the squared term with <p_i, P_j> / 2 and <p_i, H^m_j> / 4, and 100 sum |p_i - B_i|^2

R are 64 rows without b whose codes are recovered from a, with S' = 1[S + offdiag(1[S S^T > 0]) S > 0]. Modalities
and prototypes learn in turn. Not kept, as slips: recovered codes through the other modality's head, noise and ReLU at
test time, the best epoch by test score, batches drawn with replacement.

Reference code: DarrenZZhang/CICH (no licence; read, not used).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor

from amodal.losses import gaussian_kl, reconstruction, share_label
from amodal.methods.hashing.cich_paper_networks import CICHPaperNetwork
from amodal.training import Batch

__all__ = ["Memories", "modality_loss", "prototype_loss"]

RECOVERED, CCA, KL, QUANTISE, QUANTISE_PROTOTYPE = 64, 50.0, 0.01, 0.01, 100.0


@dataclass
class Memories:
    """Last outputs of all training rows, without gradient.

    Attributes:
        labels: Multi-hot labels, shape (n, c).
        present: By modality, which rows have it, bool, shape (n,).
        codes: By modality, codes, shape (n, r), zeros where absent.
        features: By modality, latent features, shape (n, e), zeros where absent.
    """

    labels: Tensor
    present: dict[str, Tensor]
    codes: dict[str, Tensor]
    features: dict[str, Tensor]

    def common(self, prototype: Tensor, index: Tensor) -> Tensor:
        """B = sgn(P + sum_m H^m) of some rows."""
        total = self.labels[index] @ prototype.T + sum(codes[index] for codes in self.codes.values())
        return torch.where(total >= 0, 1.0, -1.0)


def _squared(theta: Tensor, similar: Tensor) -> Tensor:
    loss: Tensor = ((similar * theta - F.softplus(theta)) ** 2).sum()
    return loss


def prototype_loss(labels: Tensor, index: Tensor, prototype: Tensor, memories: Memories) -> dict[str, Tensor]:
    """What the label prototypes minimise on a batch.

    Args:
        labels: Labels of the batch, shape (m, c).
        index: Their rows in the training data, shape (m,).
        prototype: W_p, shape (r, c).
        memories: Of all rows.
    """
    p = labels @ prototype.T
    similar = share_label(labels, memories.labels)
    likelihood = _squared(0.5 * p @ (memories.labels @ prototype.T).T, similar)
    for m, codes in memories.codes.items():
        rows = memories.present[m]
        likelihood = likelihood + _squared(0.25 * p @ codes[rows].T, similar[:, rows])
    distance = ((p - memories.common(prototype.detach(), index)) ** 2).sum()
    return {"loss": likelihood + QUANTISE_PROTOTYPE * distance, "likelihood": likelihood, "distance": distance}


def modality_loss(
    network: CICHPaperNetwork, batch: Batch, names: list[str], a: str, prototype: Tensor, memories: Memories
) -> dict[str, Tensor]:
    """What the networks of modality ``a`` minimise on a batch.

    Args:
        network: All networks; those of ``a`` get gradients.
        batch: The batch.
        names: The modalities in the order of the networks.
        a: The modality that learns.
        prototype: W_p without gradient.
        memories: Of all rows; those of the batch are brought up to date.
    """
    k, rows = names.index(a), batch.rows[a]
    index = batch.index[rows]
    source = network.latent(batch.x[a], k)
    memories.codes[a][index], memories.features[a][index] = source.code.detach(), source.feature.detach()
    known, labels = batch.known[rows], batch.labels[rows]
    h, similar = source.code[known], share_label(labels[known], memories.labels)
    likelihood = _squared(0.5 * h @ (memories.labels @ prototype.T).T, similar)
    sach, cca = source.code.new_zeros(()), source.code.new_zeros(())
    for j, b in enumerate(names):
        if b != a:
            there = memories.present[b]
            logits = torch.sigmoid(0.5 * h @ memories.codes[b][there].T)
            sach = sach + F.binary_cross_entropy_with_logits(logits, similar[:, there], reduction="sum")
            predicted = network.predict(source.feature, None, k, j)
            sach = sach + _recovered(network, predicted.detach(), j, there[index], h, labels, known)
            both = there[index]
            target = memories.features[b][index[both]]
            cells = float(target.numel())
            cca = cca + cells * reconstruction(predicted[both], target, released=True)
            cca = cca + cells * KL * gaussian_kl(source.mean[both], source.log_variance[both])
    distance = ((source.code - memories.common(prototype, index)) ** 2).sum()
    loss = likelihood + sach + CCA * cca + QUANTISE * distance
    return {"loss": loss, "likelihood": likelihood, "sach": sach, "cca": cca, "distance": distance}


def _recovered(
    network: CICHPaperNetwork, predicted: Tensor, target: int, has: Tensor, h: Tensor, labels: Tensor, known: Tensor
) -> Tensor:
    """The contrast with rows whose other side is imagined."""
    chosen = (~has & known).nonzero().squeeze(1)[:RECOVERED]
    with torch.no_grad():
        codes = network.code(torch.relu(predicted[chosen]), target)
    similar = share_label(labels[chosen], labels[known])  # (R, m)
    chain = share_label(similar, similar)
    chain.fill_diagonal_(0)
    linked = (similar + chain @ similar > 0).to(h.dtype)
    return F.binary_cross_entropy_with_logits(torch.sigmoid(0.5 * h @ codes.T), linked.T, reduction="sum")
