"""Generated data: as asked for, repeatable, and with classes that modalities share."""

import numpy as np
import pytest

from amodal.data import read, toy, write_large
from amodal.errors import DataError


def test_toy_is_as_asked_for_and_repeatable():
    data = toy(40, {"photo": 4, "sketch": 3}, classes=6, captions=2, unlabelled=0.25, test=0.5, seed=9)
    assert data.names == ("photo", "sketch")
    assert (data["photo"].dim, len(data["photo"]), len(data["sketch"])) == (4, 40, 80)
    assert data.labels.classes == 6
    assert data.labels.known.sum() == 30
    assert len(data.part("test")) == 20
    again = toy(40, {"photo": 4, "sketch": 3}, classes=6, captions=2, unlabelled=0.25, test=0.5, seed=9)
    assert again.fingerprint() == data.fingerprint()
    assert not toy(40, multi_label=True).labels.single


def test_modalities_share_classes_and_what_is_particular_to_an_item():
    data = toy(600, classes=4)
    labels = data.labels.dense()
    half = np.arange(600) < 300
    for name in data.names:
        features = data[name].read()
        weights = np.linalg.lstsq(features[half], labels[half], rcond=None)[0]
        assert ((features[~half] @ weights).argmax(axis=1) == labels[~half].argmax(axis=1)).mean() > 0.7
    own = {
        name: data[name].read() - labels @ np.linalg.lstsq(labels, data[name].read(), rcond=None)[0]
        for name in data.names
    }
    weights = np.linalg.lstsq(own["image"][half], own["text"][half], rcond=None)[0]
    residual = own["text"][~half] - own["image"][~half] @ weights
    assert (residual**2).mean() < 0.9 * (own["text"][~half] ** 2).mean()


def test_large_data_are_mapped_and_made_once(tmp_path):
    folder = write_large(tmp_path / "large", 300, modalities={"image": 8, "text": 4}, classes=10, chunk=70)
    data = read(folder)
    assert isinstance(data["image"].store, np.memmap)
    assert data["image"].store.dtype == np.float16
    assert (len(data), data.labels.classes) == (300, 10)
    assert 1.5 < data.labels.per_row.mean() < 2.5
    stamp = (folder / "image.npy").stat().st_mtime_ns
    write_large(folder, 300, modalities={"image": 8, "text": 4}, classes=10, chunk=70)
    assert (folder / "image.npy").stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="holds other or unfinished files"):
        write_large(folder, 301)
