"""Which status an error has, and that what may not be known is not told."""

import errno
import sqlite3

import pytest
from starlette.exceptions import HTTPException

from amodal.errors import DataError, IndexMismatch, IndexUnavailable, MethodError, MissingModality, UsageError
from amodal.service.problems import KINDS, problem_of, respond


def caused(cause):
    error = DataError("postgresql://secret-host/shop: something.")
    error.__cause__ = cause
    return error


class Postgres(Exception):
    def __init__(self, sqlstate):
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (UsageError("this is wrong."), 422, True),
        (MissingModality("no such modality."), 422, True),
        (MethodError("dch cannot."), 501, True),
        (IndexMismatch("they do not fit."), 409, True),
        (IndexUnavailable("secret-host cannot be reached."), 503, False),
        (caused(sqlite3.OperationalError("disk I/O error")), 503, False),
        (caused(Postgres("57P01")), 503, False),
        (caused(Postgres("53100")), 507, False),
        (caused(Postgres("22021")), 422, True),  # a text that PostgreSQL cannot hold is the request's fault
        (caused(OSError(errno.ENOSPC, "full")), 507, False),
        (OSError(errno.ENOSPC, "full", "/secret"), 507, False),
        (ConnectionRefusedError("secret-host"), 503, False),
        (ZeroDivisionError("secret"), 500, False),
        (HTTPException(418), 400, True),
        (HTTPException(405), 405, True),
    ],
)
def test_status_and_detail(error, status, told):
    problem = problem_of(error)
    assert problem.status_code == status
    assert told or "secret" not in str(problem.document("id"))
    assert respond(problem, "id").media_type == "application/problem+json"
    if status in (429, 503):
        assert problem.headers["Retry-After"]


def test_every_kind_is_described():
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "service.md").read_text("utf-8")
    assert [kind for kind in KINDS if f"`{kind}`" not in page] == []
