"""The same grid on a real Ray cluster, started on loopback."""

import os
import signal
import warnings

import pytest

from amodal.benchmark import cluster, engines, read_results, run_grid
from amodal.cluster import connect
from tests.benchmark.grids import data, runs
from tests.benchmark.test_engines import failures, found

ray = pytest.importorskip("ray", reason='needs Ray: pip install "amodal[ray]"')

pytestmark = [
    # Ray's own, of its next release and of sockets that its processes leave to the garbage collector
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*", "ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        connect(ray, 2)
    yield
    ray.shutdown()


def test_a_cluster_finds_what_one_process_finds(tmp_path):
    alone = list(run_grid(runs(), data(), tmp_path / "alone"))
    assert found(run_grid(runs(), data(), tmp_path / "cluster", engine="ray")) == found(alone)
    assert len(read_results(tmp_path / "cluster")) == len(alone)
    again = list(run_grid(runs(), data(), tmp_path / "cluster", engine="ray"))
    assert found(again) == found(alone)
    assert ray.is_initialized()  # a cluster that was there is not ended


def test_a_lost_worker_costs_its_run_after_a_second_try(tmp_path, monkeypatch):
    def doomed(job, dataset, training):
        """Takes the life of its worker: always for dch, the first time for cca_itq."""
        tries = tmp_path / job.run.method
        with tries.open("a") as file:
            file.write(".")
        if job.run.method == "dch" or len(tries.read_text()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return engines.Outcome(error="came through the second time.")

    monkeypatch.setattr(cluster, "_attempt", doomed)
    lost, back = run_grid(runs(("dch", "cca_itq"), seeds=1, bits=(8,)), data(), tmp_path, engine="ray", workers=2)
    assert lost["error"].startswith("the Ray worker of this run was lost twice (WorkerCrashedError")
    assert back["error"] == "came through the second time."
    assert [len((tmp_path / name).read_text()) for name in ("dch", "cca_itq")] == [2, 2]
    assert failures(tmp_path) == [lost, back]
