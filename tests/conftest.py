"""Before anything is imported: one thread per process, no model hub, and a cache that goes with the tests."""

from __future__ import annotations

import os
import tempfile

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["AMODAL_CACHE"] = tempfile.mkdtemp(prefix="amodal-test-cache-")

from tests.index.backends import backend, durable  # noqa: E402, F401  after the settings above
from tests.index.servers import milvus, postgres  # noqa: E402, F401
