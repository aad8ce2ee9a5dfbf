"""Small rankings for the tests: codes and labels with wanted distances and numbers of shared labels."""

import numpy as np

from amodal.codes import BinaryCodes
from amodal.metrics import histograms, rank, share_label


def codes_at(distances, bits):
    """Codes at the given Hamming distances from the all-zero code."""
    return BinaryCodes.from_signs(np.arange(bits) < np.asarray(distances)[:, None])


def labels_sharing(grades, classes):
    """Label rows that share the given numbers of labels with a row of ones."""
    return (np.arange(classes) < np.asarray(grades)[:, None]).astype(np.uint8)


def one_query(distances, grades, bits=None, classes=None):
    """Histograms of one query with items at these distances, sharing these numbers of labels."""
    bits = bits or max(1, max(distances))
    classes = classes or max(1, max(grades))
    rule = share_label(np.ones((1, classes), np.uint8), labels_sharing(grades, classes)).graded()
    return histograms(rank(codes_at([0], bits), codes_at(distances, bits), rule))


def random_codes(generator, rows, bits):
    return BinaryCodes.from_signs(generator.integers(0, 2, (rows, bits)))


def random_labels(generator, rows, classes, density=0.2):
    return (generator.random((rows, classes)) < density).astype(np.uint8)
