"""Runs a Milvus server where nobody can reach it but through one Unix socket; run as a script, in namespaces.

The server that PyPI's package ``milvus`` carries listens on all interfaces without authentication. So tests start this
in a network of its own: ``unshare --user --map-root-user --net --pid --fork --kill-child --mount-proc``. It serves
until its standard input ends; with it, the first process there, the whole namespace is killed.
"""

import asyncio
import fcntl
import os
import socket
import struct
import sys
import threading

__all__ = ["relay"]

PORT = 19530
INTERFACE_UP = 0x8914, struct.pack("16sH14x", b"lo", 1)  # SIOCSIFFLAGS, IFF_UP


async def _pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # one side has left, so the other is told
    finally:
        writer.close()


def relay(connect):
    """A handler of connections that passes all bytes on to what ``connect`` opens, and back."""

    async def handle(reader, writer):
        try:
            far_reader, far_writer = await connect()
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

    return handle


def start_server(folder):
    """Start the server and wait until it answers."""
    from milvus import MilvusServer, MilvusServerConfig

    config = MilvusServerConfig(data_dir=folder)
    # In ms; how long a consistent read and the loading of a collection wait for the next tick. Else 200, 1000 and 500.
    config.set("proxy.timeTickInterval", 20)
    config.set("queryCoord.checkInterval", 50)
    config.set("queryCoord.distPullInterval", 50)
    server = MilvusServer(config)
    server.start()
    return server


async def serve(path):
    """Pass connections to the Unix socket on to the server, for ever."""
    server = await asyncio.start_unix_server(relay(lambda: asyncio.open_connection("127.0.0.1", PORT)), path)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


def end_with_input():
    """Leave, and so end the namespace, when whoever started this is gone."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, *INTERFACE_UP)
    threading.Thread(target=end_with_input, daemon=True).start()
    running = start_server(sys.argv[1])
    asyncio.run(serve(sys.argv[2]))
