"""Running the application with uvicorn."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress

import uvicorn

from amodal.errors import UsageError
from amodal.service.app import create_app
from amodal.service.house import Service
from amodal.service.observe import configure_logs
from amodal.service.settings import Settings

__all__ = ["serve"]

STOPPING = 30  #: seconds that requests under way have to end


def serve(settings: Settings) -> None:
    """Answer until told to stop: by Ctrl-C or SIGTERM, after the requests under way.

    Args:
        settings: Where everything is.

    Raises:
        AmodalError: If something cannot be opened, or the address is taken.
    """
    configure_logs()
    service = Service(settings)
    try:
        listening = _listen(settings)
    except BaseException:
        service.close()
        raise
    host, port = listening.getsockname()[:2]
    facts = {"address": f"http://{f'[{host}]' if ':' in host else host}:{port}", "keys": service.keys.needed}
    logging.getLogger("amodal.service").info("serving", extra={"facts": facts})
    config = uvicorn.Config(
        create_app(service),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=STOPPING,
    )
    with suppress(KeyboardInterrupt):  # which uvicorn raises once more after it has ended everything
        uvicorn.Server(config).run(sockets=[listening])


def _listen(settings: Settings) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        raise UsageError(f"cannot listen at {settings.host} port {settings.port}: {error.strerror or error}.") from None
