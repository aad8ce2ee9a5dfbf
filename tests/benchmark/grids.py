"""A grid on generated data, run by a process of its own that can be killed."""

import sys
from pathlib import Path

from amodal.benchmark import plan, run_grid
from tests.evaluation.toys import split_toy

QUICK = {"anchors": 20}


def data():
    return split_toy(150)


def runs(methods=("dch", "label_regression", "cca_itq"), seeds=2, **options):
    options = {"bits": (8, 16), "params": QUICK, "modalities": data().names, **options}
    return plan("toys", methods, ("hard",), seeds=seeds, **options)


if __name__ == "__main__":
    folder, workers = sys.argv[1:]
    for _ in run_grid(runs(seeds=40), data(), Path(folder), workers=int(workers)):
        pass
