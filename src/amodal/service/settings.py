"""What a service is told at the start."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MiB", "Settings"]

MiB = 2**20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where everything is, and how much of anything is allowed.

    Attributes:
        model: Folder of a saved retriever, or a symbolic link to one, which a swap follows once more.
        index: URL of the index; the one in the model's folder by default.
        state: Folder of what belongs to the service and not to a model: keys, imports, answers to repeated writes.
        host: Address to listen at.
        port: Port to listen at; 0 for any that is free.
        hosts: Further names under which requests may ask for a service on loopback.
        origins: Origins of other sites' pages that may ask; none by default.
        readonly: Refuse writes, and leave the index to another writer.
        timeout: Seconds an answer may take, and a body to arrive.
        max_body: Bytes of a body, imports apart.
        max_import: Bytes of an import.
        rate: Requests per second of one key, or of one address where there are no keys; 0 for any number.
        readers: Searches that run at once; as many again times ``waiting`` may wait, the next is refused.
        waiting: Searches that may wait for each that runs.
    """

    model: Path
    index: str | None = None
    state: Path = Path("amodal-service")
    host: str = "127.0.0.1"
    port: int = 8765
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    readonly: bool = False
    timeout: float = 30.0
    max_body: int = 32 * MiB
    max_import: int = 1024 * MiB
    rate: float = 0.0
    readers: int = 4
    waiting: int = 64

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
