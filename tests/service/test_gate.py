"""Who may ask, how often, how much; what is told of it, and what is not."""

import json
import logging
import re

import pytest
from starlette.testclient import TestClient

from amodal.errors import UsageError
from amodal.service.app import create_app
from amodal.service.house import Service
from amodal.service.keys import KeyRing
from amodal.service.limits import RateLimit
from amodal.service.observe import JsonLines
from amodal.service.settings import Settings
from tests.service.conftest import problem

QUERY = {"by": "vector", "vector": "a5f0"}
ITEM = {"modalities": {"text": [{"features": [0.0]}]}}


@pytest.fixture
def guarded(serve, saved, tmp_path):
    """A service with keys: its client, and a key of each scope."""
    ring = KeyRing(tmp_path / "guarded")
    keys = {scope: ring.add(scope, scope) for scope in ("read", "write")}
    return serve(saved, state="guarded"), ring, keys


def bearer(secret):
    return {"authorization": f"Bearer {secret}"}


def test_without_a_key_nothing_but_the_page_and_health(guarded):
    service, _, _ = guarded
    for path in ("/v1/model", "/v1/items/x", "/v1/nothing", "/metrics", "/openapi.json"):
        answer = service.get(path)
        problem(answer, 401, "key-needed")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert [service.get(path).status_code for path in ("/", "/health", "/ready")] == [200, 200, 200]


def test_scopes(guarded):
    service, _, keys = guarded
    read, write = (bearer(keys[scope][1]) for scope in ("read", "write"))
    assert service.post("/v1/search", json=QUERY, headers=read).status_code == 200
    assert service.post("/v1/search", json=QUERY, headers=write).status_code == 200
    for method, path in (("PUT", "/v1/items/x"), ("POST", "/v1/items"), ("DELETE", "/v1/items/x"),
                         ("POST", "/v1/imports"), ("POST", "/v1/admin/swap"), ("POST", "/v1/items/delete"),
                         ("POST", "/v1/search/"), ("PATCH", "/v1/items/x")):  # fmt: skip
        problem(service.request(method, path, headers=read), 403, "scope-missing")
    problem(service.put("/v1/items/x", json=ITEM, headers=write), 422, "invalid")


def test_wrong_and_revoked_keys(guarded):
    service, ring, keys = guarded
    key, secret = keys["read"]
    for wrong in (
        "x",
        secret[:-1],
        secret + "x",
        f"amodal_{key.id}_",
        f"amodal_{key.id}",
        secret.removeprefix("amodal_"),
    ):
        problem(service.get("/v1/model", headers=bearer(wrong)), 401, "key-wrong")
    problem(service.get("/v1/model", headers={"authorization": f"Basic {secret}"}), 401, "key-needed")
    assert service.get("/v1/model", headers=bearer(secret)).status_code == 200
    for one in ring.all():
        ring.revoke(one.id)
    problem(service.get("/v1/model", headers=bearer(secret)), 401, "key-wrong")
    problem(service.get("/v1/model"), 401, "key-needed")  # the last key gone does not open the door


def test_only_hashes_are_kept_and_a_damaged_file_locks(guarded, tmp_path):
    service, _, keys = guarded
    file = tmp_path / "guarded" / "keys.json"
    assert file.stat().st_mode & 0o077 == 0
    for _, secret in keys.values():
        assert secret.rpartition("_")[2] not in file.read_text()
    file.write_text("{")
    problem(service.get("/v1/model", headers=bearer(keys["read"][1])), 503, "unavailable")
    file.unlink()
    problem(service.get("/v1/model"), 401, "key-needed")


def test_rates_are_per_key(serve, saved, tmp_path):
    ring = KeyRing(tmp_path / "rates")
    (_, slow), (_, free) = ring.add("slow", "read", rate=2), ring.add("free", "read", rate=10_000)
    service = serve(saved, state="rates")
    answers = [service.get("/v1/model", headers=bearer(slow)) for _ in range(5)]
    assert [answer.status_code for answer in answers[:2]] == [200, 200]
    assert int(answers[-1].headers["retry-after"]) >= 1
    problem(answers[-1], 429, "too-many-requests")
    assert service.get("/v1/model", headers=bearer(free)).status_code == 200


def test_tokens_come_back():
    now = [0.0]
    limit = RateLimit(lambda: now[0])
    assert [limit.wait("a", 2) for _ in range(3)] == [0, 0, 0.5]
    assert limit.wait("b", 2) == 0
    now[0] = 0.5
    assert [limit.wait("a", 2), limit.wait("a", 2)] == [0, 0.5]
    now[0] = 100
    assert [limit.wait("a", 2) for _ in range(3)] == [0, 0, 0.5]


def test_bodies_are_bounded_announced_or_not(serve, saved):
    service = serve(saved, max_body=2000, max_import=3000)
    large = b"x" * 2001
    json_type = {"content-type": "application/json"}
    problem(service.post("/v1/search", content=large, headers=json_type), 413, "too-large")
    problem(service.post("/v1/search", content=(large[:1000] for _ in range(3)), headers=json_type), 413, "too-large")
    problem(service.post("/v1/search", files={"picture": ("x", large)}), 413, "too-large")
    lines = {"content-type": "application/x-ndjson"}
    problem(service.post("/v1/imports", content=(b"x\n" * 500 for _ in range(4)), headers=lines), 413, "too-large")
    problem(service.post("/v1/imports", content=large, headers=lines), 413, "too-large")  # one line of that length
    assert not list((service.app.state.service.jobs).glob("*"))


def test_a_loopback_service_is_asked_by_its_own_name_only(serve, saved):
    service = serve(saved, hosts=("box.example",))
    for host in ("127.0.0.1", "localhost:1234", "[::1]:8765", "LOCALHOST", "box.example:80"):
        assert service.get("/v1/model", headers={"host": host}).status_code == 200
    for host in ("evil.example", "evil.example:8765", "127.0.0.1.evil.example", ""):
        problem(service.get("/v1/model", headers={"host": host}), 421, "wrong-host")


def test_all_the_world_needs_keys(saved, tmp_path):
    with pytest.raises(UsageError, match="amodal keys add"):
        Service(Settings(model=saved, state=tmp_path / "s", host="0.0.0.0"))  # noqa: S104 - refused
    service = Service(Settings(model=saved, state=tmp_path / "s", readonly=True))
    with pytest.raises(UsageError, match="another service"):
        Service(Settings(model=saved, state=tmp_path / "s", readonly=True))
    service.close()


def test_other_sites_are_not_told_that_they_may(serve, saved):
    service, open_one = serve(saved), serve(saved, origins=("https://shop.example",))
    asking = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in service.get("/v1/model", headers=asking).headers
    problem(service.options("/v1/search", headers=asking), 405, "method-not-allowed")
    allowed = open_one.options("/v1/search", headers=asking)
    assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
    other = open_one.options("/v1/search", headers={**asking, "origin": "https://x"})
    assert "access-control-allow-origin" not in other.headers


def test_the_page_allows_nothing_from_elsewhere(toy):
    policy = toy.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    problem(toy.get("/page/..%2f..%2fsettings.py"), 404, "not-found")
    problem(toy.get("/page/nothing.js"), 404, "not-found")


def test_request_ids_are_kept_or_made(toy):
    assert toy.get("/health", headers={"x-request-id": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    for strange in ("a b", "x" * 65, '"}'):
        assert re.fullmatch(
            "[0-9a-f]{32}", toy.get("/health", headers={"x-request-id": strange}).headers["x-request-id"]
        )


def test_logs_are_json_and_hold_no_secret(guarded, caplog):
    service, _, keys = guarded
    caplog.set_level(logging.INFO, "amodal.service")
    key, secret = keys["write"]
    service.post("/v1/search?q=hidden-word", json={**QUERY, "where": "colour == 'hidden-word'"}, headers=bearer(secret))
    service.get("/v1/items/hidden-word", headers=bearer(secret + "x"))
    service.get("/v1/items/hidden-word", headers=bearer(secret))
    lines = [JsonLines().format(record) for record in caplog.records if record.name == "amodal.service"]
    told = [json.loads(line) for line in lines]
    assert [(one["route"], one["status"], one["key"]) for one in told] == [
        ("/v1/search", 200, key.id), ("other", 401, "-"), ("/v1/items/{id}", 404, key.id)
    ]  # fmt: skip
    assert all({"time", "level", "request_id", "ms", "method"} <= set(one) for one in told)
    assert "hidden-word" not in "".join(lines) and secret.rpartition("_")[2] not in "".join(lines)


def test_metrics_count_by_route(toy):
    toy.get("/v1/items/a"), toy.get("/v1/items/b"), toy.request("BREW", "/v1/strange")
    text = toy.get("/metrics").text
    assert 'amodal_requests_total{method="GET",route="/v1/items/{id}",status="404"} 2.0' in text
    assert 'method="other",route="other"' in text
    assert f"amodal_entries {toy.get('/v1/index').json()['entries']}.0" in text


def test_ready_tells_when_the_index_does_not_answer(toy, monkeypatch):
    assert toy.get("/ready").json() == {"status": "ok"}
    with monkeypatch.context() as patch:

        def lost(_ids):
            raise ConnectionError("no route to host")

        patch.setattr(toy.app.state.service.generation.index, "get", lost)
        problem(toy.get("/ready"), 503, "unavailable")
        assert toy.get("/health").status_code == 200


def test_a_service_that_reads_only(serve, saved):
    service = serve(saved, readonly=True)
    assert service.get("/v1/index").json()["writable"] is False
    assert service.post("/v1/search", json=QUERY).status_code == 200
    problem(service.delete("/v1/items/x"), 501, "not-supported")
    lines = {"content-type": "application/x-ndjson"}
    problem(service.post("/v1/imports", content=b"{}\n", headers=lines), 501, "not-supported")


def test_a_second_application_can_be_made_of_a_reading_service(saved, tmp_path):
    service = Service(Settings(model=saved, state=tmp_path / "s", readonly=True))
    with TestClient(create_app(service), base_url="http://localhost") as client:
        assert client.get("/ready").status_code == 200
    assert service.stopping
