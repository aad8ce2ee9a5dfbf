"""What only the index in PostgreSQL has: its addresses, its failures, and other people's doings in the database."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import amodal.index
from amodal.errors import DataError, IndexUnavailable, MissingExtra, UsageError
from amodal.index import Field, IndexSpec
from amodal.index.postgres_session import Address
from tests.oracles.nearest import hamming, nearest

SPEC = IndexSpec("binary", bits=64, attributes={"year": "int", "tag": "str", "weight": "float"}, lookups=("tag",))


def test_the_driver_is_loaded_only_for_such_an_address():
    program = "import sys, amodal.index; sys.exit(str({'psycopg', 'pymilvus'} & set(sys.modules) or 0))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).stderr == b"0\n"


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "amodal.index.postgres", raising=False)
    monkeypatch.delitem(sys.modules, "amodal.index.postgres_session", raising=False)
    with pytest.raises(MissingExtra, match=r'pip install "amodal\[postgres\]"'):
        amodal.index.open("postgresql://host/db?table=t")


def test_addresses_say_where_without_the_password():
    address = Address.parsed("postgresql://me:s%40cret@db.example:5432/shop?sslmode=require&table=art.photos")
    assert address.place == "postgresql://me@db.example:5432/shop?table=art.photos"
    assert address.table == '"art"."photos"'
    assert address.conninfo == "postgresql://me:s%40cret@db.example:5432/shop?sslmode=require&connect_timeout=10"


@pytest.mark.parametrize("end", ["", "?table=", '?table=a"b', "?table=a.b.c", "?tabel=t"])
def test_an_address_must_name_a_table(end):
    with pytest.raises(UsageError, match="must name a table") as caught:
        amodal.index.open("postgresql://me:secret@host/db" + end)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("parameters", ["&nonsense=1", "&connect_timeout=soon"])
def test_an_address_that_the_client_library_cannot_read(parameters):
    with pytest.raises((UsageError, IndexUnavailable), match="postgresql://me@127"):
        amodal.index.open("postgresql://me:secret@127.0.0.1:1/db?table=t" + parameters)


def test_a_server_that_is_not_there():
    with pytest.raises(
        IndexUnavailable, match=r"cannot be reached.*[Cc]onnection refused.*Check that it runs"
    ) as caught:
        amodal.index.open("postgresql://me:secret@127.0.0.1:1/db?table=t")
    assert "secret" not in str(caught.value)


@pytest.fixture
def admin(postgres):
    """A connection of an administrator."""
    import psycopg

    with psycopg.connect(postgres.removesuffix("&table="), autocommit=True) as connection:
        yield connection


@pytest.mark.service
def test_a_user_that_the_server_does_not_know(postgres):
    with pytest.raises(IndexUnavailable, match='role "nobody" does not exist'):
        amodal.index.open(postgres.replace("postgres@", "nobody@") + "t")


@pytest.mark.service
def test_a_database_without_pgvector_and_without_the_right_to_add_it(postgres, admin):
    admin.execute("CREATE ROLE guest LOGIN")
    admin.execute("CREATE DATABASE bare OWNER guest")
    url = postgres.replace("postgres@/postgres", "guest@/bare") + "t"
    with pytest.raises(DataError, match=r"needs the extension pgvector.*permission denied.*CREATE EXTENSION vector"):
        amodal.index.open(url, create=SPEC)
    with pytest.raises(UsageError, match="holds no index"):
        amodal.index.open(url)


@pytest.mark.service
def test_somebody_elses_table_is_left_alone(postgres, admin):
    admin.execute("CREATE TABLE orders (id bigint)")
    admin.execute("COMMENT ON TABLE orders IS 'keep'")
    with pytest.raises(UsageError, match="is no index; choose another name"):
        amodal.index.open(postgres + "orders", create=SPEC)


@pytest.mark.service
def test_a_newer_format_is_refused(postgres, admin):
    amodal.index.open(postgres + "newer", create=SPEC).close()
    admin.execute("""COMMENT ON TABLE newer IS '{"amodal": {"format": 2, "spec": "?"}}'""")
    with pytest.raises(DataError, match="newer amodal"):
        amodal.index.open(postgres + "newer")


@pytest.mark.service
def test_a_lost_connection_is_made_again(postgres, admin):
    vectors = np.arange(80, dtype=np.uint8).reshape(10, 8)
    with amodal.index.open(postgres + "lost", create=SPEC) as index:
        index.add(range(10), vectors)
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        with pytest.raises(IndexUnavailable, match="gone away"):
            index.count()
        assert index.count() == 10
        assert index.search(vectors[:1], 1).ids.tolist() == [[0]]


@pytest.mark.service
def test_threads_search_side_by_side(postgres):
    vectors = np.arange(80, dtype=np.uint8).reshape(10, 8)
    inside = threading.Barrier(4, timeout=20)
    with amodal.index.open(postgres + "side", create=SPEC) as index:
        index.add(range(10), vectors)

        def look(_):
            with index._session.transaction() as connection:
                inside.wait()  # all four are in a transaction at once
                return connection.execute("SELECT count(*) FROM side").fetchone()[0]

        for _ in range(2):
            with ThreadPoolExecutor(4) as threads:
                assert list(threads.map(look, range(4))) == [10] * 4
        assert len(index._session._idle) == 4  # the second four found those of the first
        kept = list(index._session._idle)
    assert all(connection.closed for connection in kept)


@pytest.mark.service
def test_an_approximate_index_that_somebody_made_changes_no_answer(postgres, admin):
    rng = np.random.default_rng(0)
    vectors = rng.integers(0, 256, (3000, 8), np.uint8)
    with amodal.index.open(postgres + "hnsw", create=SPEC) as index:
        index.add(range(3000), vectors)
        admin.execute("CREATE INDEX ON hnsw USING hnsw (vector bit_hamming_ops) WITH (m = 2, ef_construction = 4)")
        hits = index.search(vectors[:20], 50)
    np.testing.assert_array_equal(hits.ids, nearest(hamming(vectors[:20], vectors), np.arange(3000), 50)[0])


@pytest.mark.service
def test_a_lookup_is_answered_by_its_search_tree(postgres, admin):
    from amodal.index.postgres_sql import to_postgres

    with amodal.index.open(postgres + "looked", create=SPEC) as index:
        index.add(range(20_000), np.zeros((20_000, 8), np.uint8), {"tag": [f"tag {n}" for n in range(20_000)]})
    admin.execute("ANALYZE looked")
    for where in (Field("tag") == "tag 7", Field("tag").isin(["tag 7", "tag 8"])):
        condition, values = to_postgres(where, SPEC.attributes)
        query = f"EXPLAIN SELECT id FROM looked WHERE {condition}"  # noqa: S608
        plan = " ".join(line for (line,) in admin.execute(query, values))
        assert "looked_tag_idx" in plan


@pytest.mark.service
def test_numbers_that_no_double_holds_are_told_apart(postgres):
    large = 2**62 + 1
    with amodal.index.open(postgres + "large", create=SPEC) as index:
        index.add([1, 2], np.zeros((2, 8), np.uint8), {"year": [large, large + 1]})
        assert index.ids(Field("year") == large).tolist() == [1]
        assert index.ids(Field("year") > float(2**62)).tolist() == [1, 2]
        assert index.ids(Field("year") <= float(2**62)).tolist() == []
        assert index.count(Field("year") < float("inf")) == 2


@pytest.mark.service
def test_text_that_the_server_cannot_hold(postgres):
    with amodal.index.open(postgres + "nul", create=SPEC) as index:
        with pytest.raises(DataError, match=r"NUL.*wrote nothing"):
            index.add(range(10_001), np.zeros((10_001, 8), np.uint8), {"tag": ["x"] * 10_000 + ["a\0b"]})
        assert index.count() == 0
