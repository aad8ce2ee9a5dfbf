"""Pictures and captions made of concepts: words are noisy projections of some regions of their picture."""

from dataclasses import replace

import numpy as np

from amodal.data import Dataset, Observations


def planted(n=96, *, regions=6, words=5, captions=1, concepts=40, width=(20, 16), noise=0.3, numbered=False, seed=0):
    """Items with parts (m, length, d) of two modalities, padded by zeros to one more than the longest.

    Each picture has some concepts, one per region; each caption names half of them or more, in any order. With
    ``numbered`` a word is the number of its concept, from 1.
    """
    rng = np.random.default_rng(seed)
    maps = [np.random.default_rng(7).standard_normal((concepts, d)) for d in width]
    image = np.zeros((n, regions + 1, width[0]), np.float32)
    text = np.zeros((n * captions, words + 1, 1 if numbered else width[1]), np.float32)
    for i in range(n):
        k = rng.integers(regions - 2, regions + 1)
        here = rng.choice(concepts, k, replace=False)
        image[i, :k] = maps[0][here] + noise * rng.standard_normal((k, width[0]))
        for caption in range(captions):
            count = rng.integers(2, min(words, k) + 1)
            named = rng.permutation(here)[:count]
            row = text[i * captions + caption]
            row[:count] = (
                named[:, None] + 1 if numbered else maps[1][named] + noise * rng.standard_normal((count, width[1]))
            )
    tables = {
        "image": Observations(image, np.arange(n)),
        "text": Observations(text, np.repeat(np.arange(n), captions)),
    }
    return Dataset(np.array([f"item {i:03d}" for i in range(n)]), tables)


def with_third(data, *, seed=3):
    """The same items with a third modality of parts, "tags": noisy copies of the words."""
    text = data["text"].read()
    noise = 0.2 * np.random.default_rng(seed).standard_normal(text.shape) * (text != 0)
    tags = Observations((text + noise).astype(np.float32)[:, ::-1], data["text"].item)
    return replace(data, modalities={**data.modalities, "tags": tags})
