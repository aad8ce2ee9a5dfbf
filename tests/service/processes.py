"""The service as a process of its own, as `amodal serve` starts it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager


class Process:
    """A service that runs, and where it listens."""

    def __init__(self, model, state, *options):
        words = ["serve", str(model), "--state", str(state), "--port", "0", *options]
        code = "from amodal.cli import main; main()"
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe that nobody reads would stop it
        self.child = subprocess.Popen(
            [sys.executable, "-c", code, *words], stderr=self._said, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        while "\n" not in self.said() and self.child.poll() is None:
            time.sleep(0.02)
        try:
            self.address = json.loads(self.said().partition("\n")[0])["address"]
        except (ValueError, KeyError):
            self.kill()
            raise AssertionError(self.said()) from None

    def said(self):
        """Its log so far."""
        return os.pread(self._said.fileno(), 10**8, 0).decode()

    def kill(self):
        """As kill -9 does: no chance to say anything."""
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def stop(self):
        """As Ctrl-C does; returns the exit status and what it had said."""
        self.child.send_signal(signal.SIGINT)
        return self.child.wait(timeout=30), self.said()


@contextmanager
def running(model, state, *options):
    """A service, killed at the end if it still runs."""
    process = Process(model, state, *options)
    try:
        yield process
    finally:
        process.kill()
        process._said.close()
