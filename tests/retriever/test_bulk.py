"""Encoding in bulk: the entries of a retriever's own index, in any other, once, and whatever happens on the way."""

import os
import signal
import warnings

import pytest

import amodal
import amodal.index
from amodal import bulk
from amodal.bulk import encode_into
from amodal.cluster import connect
from amodal.errors import DataError, IndexMismatch, UsageError
from amodal.index.copying import checksum
from tests.retriever.catalogue import TINY


def sum_of(url):
    with amodal.index.open(url, readonly=True) as index:
        return checksum(index)


def test_the_entries_are_those_of_the_retriever_itself(shop, items, tmp_path):
    url, told = str(tmp_path / "i"), []
    done = encode_into(shop, items, url, part=7, progress=lambda *news: told.append(news))
    assert (done.written, done.kept, done.left_out) == (len(shop), 0, [])
    assert sum_of(url) == checksum(shop.index_)
    assert told[-1] == (len(items), len(items), "encoding") and len(told) == -(-len(items) // 7)
    again = encode_into(shop, items, url, part=7)
    assert (again.written, again.kept) == (0, len(shop))


def test_raw_content_is_encoded_and_what_is_damaged_left_out(shapes, catalogue, tmp_path):
    from tests.retriever.catalogue import write_catalogue

    items = amodal.read(write_catalogue(tmp_path / "own"))
    (tmp_path / "own" / "img" / "0.png").write_bytes(b"no picture")
    with amodal.Retriever.load(shapes, readonly=True) as shop:
        with pytest.raises(DataError, match=r"0\.png"):
            encode_into(shop, items, "memory:")
        done = encode_into(shop, items, str(tmp_path / "i"), skip_bad=True, part=10)
        assert done.written == len(shop) - 1 and len(done.left_out) == 1


def test_an_interrupted_run_goes_on(shop, items, tmp_path):
    url = str(tmp_path / "i")

    def stop(done, _total, _what):
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_into(shop, items, url, part=10, progress=stop)
    done = encode_into(shop, items, url, part=10)
    assert 0 < done.kept < len(shop) and done.kept + done.written == len(shop)
    assert sum_of(url) == checksum(shop.index_)


def test_what_cannot_be_is_refused(shop, items, tmp_path):
    url = str(tmp_path / "i")
    with amodal.Retriever("dch", bits=16, anchors=TINY["anchors"] - 1).fit(items) as other:
        encode_into(other, items, url)
    with pytest.raises(IndexMismatch, match="fingerprint"):
        encode_into(shop, items, url)
    for words, options in (('Did you mean "ray"', {"engine": "rya"}), ("workers is 2", {"workers": 2})):
        with pytest.raises(UsageError, match=words):
            encode_into(shop, items, url, **options)


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray", reason='needs Ray: pip install "amodal[ray]"')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        connect(ray, 2)
    yield ray
    ray.shutdown()


rays_own = pytest.mark.filterwarnings(
    "ignore::FutureWarning:ray.*", "ignore::ResourceWarning", "ignore::DeprecationWarning"
)


@pytest.mark.service
@rays_own
def test_a_cluster_writes_the_same_codes(cluster, shapes, catalogue, tmp_path):
    items = amodal.read(catalogue)
    with amodal.Retriever.load(shapes, readonly=True) as shop:
        done = encode_into(shop, items, str(tmp_path / "i"), engine="ray", part=5)
        assert done.written == len(shop)
        assert sum_of(str(tmp_path / "i")) == checksum(shop.index_)
        assert encode_into(shop, items, str(tmp_path / "i"), engine="ray", part=5).written == 0
    assert cluster.is_initialized()  # a cluster that was there is not ended


@pytest.mark.service
@rays_own
def test_a_worker_that_dies_costs_its_part(cluster, shop, items, tmp_path, monkeypatch):
    def deadly(place, rows):
        """Takes the life of its worker: the first two times that the second part is tried."""
        tries = tmp_path / f"tries-{rows[0]}"
        with tries.open("a") as file:
            file.write(".")
        if rows[0] == 10 and len(tries.read_text()) <= 2:
            os.kill(os.getpid(), signal.SIGKILL)
        from amodal.bulk import _encode

        return _encode(place, rows)

    monkeypatch.setattr(bulk, "_encode", deadly)
    done = encode_into(shop, items, str(tmp_path / "i"), engine="ray", part=10)
    assert done.written == len(shop)
    assert sum_of(str(tmp_path / "i")) == checksum(shop.index_)
    tries = {path.name: len(path.read_text()) for path in tmp_path.glob("tries-*")}
    assert tries.pop("tries-10") == 3 and set(tries.values()) == {1}


@pytest.mark.service
@rays_own
def test_a_part_that_ends_every_worker_is_told_and_the_rest_is_kept(cluster, shop, items, tmp_path, monkeypatch):
    def deadly(place, rows):
        if rows[0] == 50:
            os.kill(os.getpid(), signal.SIGKILL)
        from amodal.bulk import _encode

        return _encode(place, rows)

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "_encode", deadly)
        with pytest.raises(DataError, match=f'items "{items.ids[50]}" to .* ended 4 workers'):
            encode_into(shop, items, str(tmp_path / "i"), engine="ray", part=10)
    done = encode_into(shop, items, str(tmp_path / "i"), engine="ray", part=10)
    assert done.kept > 0 and done.kept + done.written == len(shop)


@pytest.mark.service
@rays_own
def test_what_a_part_raises_is_raised_here(cluster, shapes, tmp_path):
    from tests.retriever.catalogue import write_catalogue

    items = amodal.read(write_catalogue(tmp_path / "own"))
    (tmp_path / "own" / "img" / "0.png").write_bytes(b"no picture")
    with amodal.Retriever.load(shapes, readonly=True) as shop, pytest.raises(DataError, match=r"0\.png"):
        encode_into(shop, items, str(tmp_path / "i"), engine="ray")
