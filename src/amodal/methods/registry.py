"""Every method by name. To add one: write its file and add one line here."""

from __future__ import annotations

from importlib import import_module

from amodal.errors import UsageError, nearest
from amodal.methods.base import Method

__all__ = ["METHODS", "get", "names"]

# slug -> module and class; modules are imported when asked for, so that listing names loads no torch
METHODS: dict[str, tuple[str, str]] = {
    "agah": ("amodal.methods.hashing.agah", "AGAH"),
    "casr": ("amodal.methods.embedding.casr", "CASR"),
    "causmatch": ("amodal.methods.matching.causmatch", "CausMatch"),
    "cca_itq": ("amodal.methods.shallow.cca_itq", "CCAITQ"),
    "cibhash": ("amodal.methods.hashing.cibhash", "CIBHash"),
    "cich": ("amodal.methods.hashing.cich", "CICH"),
    "cich_paper": ("amodal.methods.hashing.cich_paper", "CICHPaper"),
    "ciim": ("amodal.methods.embedding.ciim", "CIIM"),
    "cimon": ("amodal.methods.hashing.cimon", "CIMON"),
    "cyclegen": ("amodal.methods.embedding.cyclegen", "CycleGen"),
    "dadh": ("amodal.methods.hashing.dadh", "DADH"),
    "davae": ("amodal.methods.embedding.davae", "DAVAE"),
    "dch": ("amodal.methods.shallow.dch", "DCH"),
    "dchmt": ("amodal.methods.hashing.dchmt", "DCHMT"),
    "dcmh": ("amodal.methods.hashing.dcmh", "DCMH"),
    "dual_encoder": ("amodal.methods.embedding.dual_encoder", "DualEncoder"),
    "jimfh": ("amodal.methods.shallow.jimfh", "JIMFH"),
    "label_contrastive": ("amodal.methods.hashing.label_contrastive", "LabelContrastive"),
    "label_regression": ("amodal.methods.shallow.label_regression", "LabelRegression"),
    "mccn": ("amodal.methods.embedding.mccn", "MCCN"),
    "pan": ("amodal.methods.embedding.pan", "PAN"),
    "scan": ("amodal.methods.matching.scan", "SCAN"),
    "scratch": ("amodal.methods.shallow.scratch", "SCRATCH"),
    "seph": ("amodal.methods.shallow.seph", "SePH"),
    "sgraf": ("amodal.methods.matching.sgraf", "SGRAF"),
    "ssah": ("amodal.methods.hashing.ssah", "SSAH"),
    "ucmfh": ("amodal.methods.hashing.ucmfh", "UCMFH"),
}


def names() -> list[str]:
    """All registered slugs, in alphabetical order."""
    return sorted(METHODS)


def get(slug: str) -> type[Method]:
    """The class of a method.

    Args:
        slug: Its name, for instance "cich".

    Raises:
        UsageError: Naming the nearest registered method.
    """
    if slug not in METHODS:
        raise UsageError(nearest(slug, METHODS, what="method"))
    module, name = METHODS[slug]
    method: type[Method] = getattr(import_module(module), name)
    return method
