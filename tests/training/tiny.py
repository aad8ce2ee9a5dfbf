"""The smallest deep method: a linear map per modality, fitted to label prototypes, with dropout as its chance."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from amodal.data import incomplete, toy
from amodal.losses import pair_likelihood, share_label
from amodal.methods import Card
from amodal.methods.deep import DeepMethod, Standardise
from amodal.training import Training


class Tiny(DeepMethod):
    card = Card(
        slug="tiny",
        name="Tiny",
        summary="Linear maps to label prototypes.",
        paper="none",
        family="hashing",
        returns="codes",
        needs_labels=True,
        needs_pairs="no",
        native="any",
        checked="is itself a check",
        reference_code="none",
    )

    presets = MappingProxyType({"fast": {"rate": 0.05, "epochs": 2}})

    def __init__(self, bits=8, *, epochs=6, batch_size=32, rate=0.01, dropout=0.2, seed=0):
        self.bits, self.epochs, self.batch_size = bits, epochs, batch_size
        self.rate, self.dropout, self.seed = rate, dropout, seed

    def build(self):
        sides = [
            nn.Sequential(Standardise(width), nn.Dropout(self.dropout), nn.Linear(width, self.bits), nn.Tanh())
            for width in self.widths_.values()
        ]
        return nn.ModuleDict(
            {"side": nn.ModuleList(sides), "prototype": nn.Linear(len(self.classes_), self.bits, bias=False)}
        )

    def groups(self):
        prototype = self.network_["prototype"].parameters()
        return [
            {"params": self.network_["side"].parameters(), "lr": self.rate},
            {"params": prototype, "lr": 2 * self.rate},
        ]

    def step(self, batch, epoch):
        losses = {}
        classes = torch.eye(len(self.classes_), device=batch.labels.device)
        for k, name in enumerate(self.widths_):
            labelled = batch.known[batch.rows[name]]
            codes = self.network_["side"][k](batch.x[name][labelled])
            labels = batch.labels[batch.rows[name][labelled]]
            theta = 0.5 * codes @ self.network_["prototype"](classes).T
            losses[name] = pair_likelihood(theta, share_label(labels, classes))
        return {"loss": sum(losses.values()), **losses}

    def output(self, x, modality):
        return self.network_["side"][list(self.widths_).index(modality)](x)


def data(n=100, setting="medium", **options):
    return incomplete(toy(n, classes=4, **options), setting)


def weights(method):
    return {name: value.clone() for name, value in method.network_.state_dict().items()}


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def kill_while_learning(folder, epochs, when):
    """Fit in this process, resuming what is in the folder, and die by SIGKILL.

    At "batch N" after the N-th batch of all; at "writing N" where the N-th checkpoint of this process is written but
    not yet in its place.
    """
    torch.set_num_threads(1)
    kind, number = when.split()
    left = int(number)

    def die():
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if kind == "writing":
        place = Path.replace

        def replace(self, target):
            if Path(target).name == "checkpoint.safetensors":
                die()
            return place(self, target)

        Path.replace = replace
    training = Training(
        device="cpu",
        folder=Path(folder),
        resume=True,
        checkpoint_every=1,
        progress=(lambda *_: die()) if kind == "batch" else None,
    )
    Tiny(epochs=epochs).fit(data(), training=training)


def learn_with_others(folder):
    """Fit as one of several processes, and write what came of it."""
    torch.set_num_threads(1)
    training = Training(device="cpu", devices=2, strategy="ddp", checkpoint_every=2)
    Tiny(seed=5).fit(data(90), training=training)  # a method of several stages trains more than once
    method = Tiny().fit(data(90), training=replace(training, folder=Path(folder) / "log"))
    rank = torch.distributed.get_rank()
    torch.save(weights(method), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    if verb == "kill":
        kill_while_learning(arguments[0], int(arguments[1]), arguments[2])
    else:
        learn_with_others(arguments[0])
