"""A process that adds items to a saved retriever in batches and acknowledges each; run as a script."""

import sys

import amodal
from amodal.data import toy
from tests.retriever.catalogue import renamed

BATCH = 40


def batch_of(number):
    return renamed(toy(BATCH, seed=number), f"batch {number} ")


if __name__ == "__main__":
    shop = amodal.Retriever.load(sys.argv[1])
    for number in range(int(sys.argv[2]), 10**9):
        shop.add(batch_of(number))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
