"""A method before its first step: its networks as drawn, the data as one batch, and what each term would teach."""

import numpy as np

from amodal.training import Batches


def one_batch(data):
    return Batches(data, len(data), 0).gather(np.arange(len(data)))


def drawn(method, data):
    """The networks before learning, and the whole data as one batch."""
    method.meet(data)
    method.network_ = method.draw()
    method.prepare(data)
    return one_batch(data)


def latent(method, batch):
    """z of every modality."""
    return {m: method.network_.latent(batch.x[m], k) for k, m in enumerate(method.widths_)}


def taught(method, batch, term, epoch=0):
    """Which parameters a term teaches, by the first word of their names."""
    method.network_.zero_grad(set_to_none=True)
    method.step(batch, epoch)[term].backward()
    return {n.split(".")[0] for n, p in method.network_.named_parameters() if p.grad is not None and p.grad.any()}
