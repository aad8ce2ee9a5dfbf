"""What the outside sees of a running service: logs, one JSON object per line, and metrics for Prometheus."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from amodal.service.house import Service

__all__ = ["JsonLines", "Metrics", "configure_logs"]

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Counts and times of requests, by route and never by what was asked; and how much is indexed.

    Args:
        service: Whose metrics.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = own = CollectorRegistry()
        self.requests = Counter("amodal_requests", "Requests answered", ["route", "method", "status"], registry=own)
        self.seconds = Histogram("amodal_request_seconds", "Time to answer", ["route"], buckets=_BUCKETS, registry=own)
        self.under_way = Gauge("amodal_requests_under_way", "Requests being answered", registry=own)
        self._entries = Gauge("amodal_entries", "Entries in the index", registry=own)
        self._waiting = Gauge("amodal_import_lines_waiting", "Lines of imports not yet written", registry=own)
        self._model = Gauge("amodal_model", "The model that answers", ["method", "generation"], registry=own)

    def text(self) -> bytes:
        """All of them, in the format that Prometheus reads."""
        generation = self._service.generation
        self._entries.set(generation.index.count())
        self._waiting.set(self._service.ledger.unfinished())
        self._model.clear()
        self._model.labels(generation.reader.method.card.slug, generation.id).set(1)
        return generate_latest(self._registry)


class JsonLines(logging.Formatter):
    """A log record as a JSON object: time, level, message, its facts, and of an error what and where it was."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logs() -> None:
    """Send the service's and the server's logs to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in (("amodal.service", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
