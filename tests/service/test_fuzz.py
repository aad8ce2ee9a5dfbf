"""Whatever is sent, the answer is no 5xx, and is what the OpenAPI schema says.

About a thousand requests; AMODAL_FUZZ=14 makes that more than ten thousand. ``-rP`` tells how many they were.
"""

import json
import logging
import os
import random
import re

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from starlette.testclient import TestClient

from amodal.service.app import create_app
from amodal.service.house import Service
from amodal.service.settings import Settings
from tests.service.test_searching import png

TIMES = int(os.environ.get("AMODAL_FUZZ", "1"))
SENT = ("method", "url", "params", "headers", "json", "content", "data", "files")
BOUNDED = settings(
    max_examples=8 * TIMES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)  # fmt: skip


@pytest.fixture(scope="module")
def service(shapes, tmp_path_factory):
    import shutil

    folder = tmp_path_factory.mktemp("fuzz")
    model = shutil.copytree(shapes, folder / "m.amodal")
    with TestClient(
        create_app(Service(Settings(model=model, state=folder / "state"))), base_url="http://127.0.0.1:8765"
    ) as client:
        yield client


@schemathesis.serializer("application/x-ndjson")
def one_line(_context, value):
    return json.dumps(value).encode()


def test_every_endpoint_keeps_its_schema(service):
    schema = schemathesis.openapi.from_dict(service.get("/openapi.json").json())
    told = {found.ok().label: _statuses(found.ok(), service) for found in schema.get_all_operations()}
    assert len(told) > 15 and all(told.values())
    assert {200, 404, 422} <= set().union(*told.values())


def _statuses(operation, service):
    """What an endpoint answers to requests made from the schema."""
    told = set()

    @given(operation.as_strategy())
    @BOUNDED
    def keeps(case):
        sent = case.as_transport_kwargs(base_url="http://127.0.0.1:8765")
        if isinstance(sent.get("data"), bytes | str):
            sent["content"] = sent.pop("data")
        if isinstance(sent.get("files"), list):
            sent["files"] = [(name, _file(one)) for name, one in sent["files"]]
        answer = service.request(**{name: value for name, value in sent.items() if name in SENT})
        told.add(answer.status_code)
        assert answer.status_code < 500 or answer.status_code == 501, answer.text
        case.validate_response(answer, checks=[content_type_conformance, response_schema_conformance])

    keeps()
    return told


def _file(made):
    """A file as the client sends it; made from a schema, its content may also be a number."""
    if isinstance(made, tuple):
        return (made[0], _file(made[1]), *made[2:])
    return made if isinstance(made, bytes) or hasattr(made, "read") else str(made)


words = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["year", "colour", "modality", "content", "==", "in", "not", "and", "(", ")", "[", "]", "'a'", "1",
                     "1e999", "None", "-", ",", "lambda: 0", "__import__('os')", "x.y", "f'{1}'", "\\", "\0",
                     "9" * 400]),
)  # fmt: skip


@given(st.lists(words, max_size=12).map(" ".join))
@settings(BOUNDED, max_examples=200 * TIMES)
def test_any_filter_is_answered_or_refused(service, where):
    answer = service.post("/v1/search", json={"by": "vector", "vector": "a5f0", "where": where})
    assert answer.status_code in (200, 422)


_leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_inner = _leaf | st.lists(_leaf | st.lists(_leaf, max_size=2), max_size=3)
_values = _inner | st.dictionaries(st.sampled_from(["in", "has", "==", "<", "year", "x"]), _inner, max_size=3)


@given(st.dictionaries(st.sampled_from(["year", "colour", "modality", "x"]), _values, max_size=3))
@settings(BOUNDED, max_examples=200 * TIMES)
def test_any_tree_is_answered_or_refused(service, where):
    body = json.dumps({"by": "vector", "vector": "a5f0", "where": where})
    answer = service.post("/v1/search", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 422)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_damaged_pictures_are_answered_or_refused(service, form):
    random.seed(form)
    whole = png(form=form)
    assert service.post("/v1/search", files={"picture": ("x", whole)}).status_code == 200
    for _ in range(15 * TIMES):
        content = bytearray(whole)
        for _ in range(random.randint(1, 20)):
            content[random.randrange(len(content))] = random.randrange(256)
        cut = bytes(content[: random.randint(1, len(content))])
        assert service.post("/v1/search", files={"picture": ("x", cut)}).status_code in (200, 422)


@given(st.binary(max_size=60))
@settings(BOUNDED, max_examples=60 * TIMES)
def test_any_bytes_are_answered_or_refused(service, body):
    for path, kind in (("/v1/search", "application/json"), ("/v1/search", "multipart/form-data; boundary=x"),
                       ("/v1/items", "application/json"), ("/v1/imports", "application/x-ndjson")):  # fmt: skip
        assert service.post(path, content=body, headers={"content-type": kind}).status_code in (202, 400, 422)


def test_what_was_answered_is_counted(service):
    told = re.findall(r'amodal_requests_total\{.*status="(\d+)"\} (\d+)', service.get("/metrics").text)
    counts = {status: sum(int(count) for other, count in told if other == status) for status, _ in told}
    logging.getLogger(__name__).warning("answers by status: %s, in all: %d", counts, sum(counts.values()))
    assert not {status for status in counts if status[0] == "5"} - {"501"}
