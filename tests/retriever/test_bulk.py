"""Encoding in bulk: the entries of a retriever's own index, in any other, once, and whatever happens on the way."""

import os
import shutil
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
from amodal.methods import get
from amodal.reranking import Reranker
from tests.cli.conftest import amodal as program
from tests.index.servers import postgres
from tests.retriever.catalogue import TINY, renamed

__all__ = ["postgres", "program"]


@pytest.fixture(scope="module")
def cascade(catalogue, tmp_path_factory):
    """A folder with a retriever of the drawn shapes that re-ranks."""
    reranker = Reranker(get("scan").create(epochs=2, width=32, batch_size=16), top=32)
    shop = amodal.Retriever("dch", bits=16, **TINY, rerank=reranker).fit(amodal.read(catalogue))
    return shop.save(tmp_path_factory.mktemp("models") / "cascade.amodal")


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


def test_what_is_encoded_in_bulk_can_be_re_ranked(cascade, catalogue, tmp_path):
    items, url = renamed(amodal.read(catalogue), "new "), str(tmp_path / "i")
    with amodal.Retriever.load(cascade, readonly=True) as shop:
        encode_into(shop, items, url, part=10)
        check_ranked(shop, url)
    with amodal.Retriever.load(cascade, readonly=True) as shop:
        forgetting = shop.reranker.writing()
        forgetting.store.delete(["new p0"])
        forgetting.close()
        done = encode_into(shop, items, url, part=10)
        assert done.written == 15, "the first part, once more"
        assert encode_into(shop, items, url, part=10).written == 0
        check_ranked(shop, url)


def check_ranked(shop, url):
    """Renamed items in another index are scored as those that the retriever indexed itself."""
    own = [(match.item, match.score) for match in shop.search(text="a red circle", k=32)]
    ours, shop.index_ = shop.index_, amodal.index.open(url, readonly=True)
    ours.close()
    renamed = [(match.item.removeprefix("new "), match.score) for match in shop.search(text="a red circle", k=32)]
    assert sorted(own, key=str) == sorted(renamed, key=str)
    assert sum(score is not None for _, score in own) == 24


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
def test_a_cluster_gives_the_fragments_too(cluster, cascade, catalogue, tmp_path):
    url, own = str(tmp_path / "i"), shutil.copytree(cascade, tmp_path / "own.amodal")
    with amodal.Retriever.load(own, readonly=True) as shop:
        encode_into(shop, renamed(amodal.read(catalogue), "new "), url, engine="ray", part=10)
        check_ranked(shop, url)


@pytest.mark.service
@rays_own
def test_a_cluster_writes_into_a_server(cluster, shapes, catalogue, postgres, program, tmp_path):
    done = program("encode", shapes, catalogue, "--index", f"{postgres}bulk", "--engine", "ray", "--json")
    local = program("encode", shapes, catalogue, "--index", tmp_path / "i", "--json")
    assert (
        (done.code, done.json)
        == (local.code, local.json)
        == (0, {"schema": 1, "written": 48, "kept": 0, "left_out": []})
    )
    with (
        amodal.index.open(f"{postgres}bulk", readonly=True) as there,
        amodal.index.open(str(tmp_path / "i"), readonly=True) as here,
    ):
        assert there.ids().tolist() == here.ids().tolist()
        assert checksum(there) == checksum(here)
    again = program("encode", shapes, catalogue, "--index", f"{postgres}bulk", "--engine", "ray", "--json")
    assert (again.json["written"], again.json["kept"]) == (0, 48)


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
