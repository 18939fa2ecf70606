"""The Optuna dashboard in a process of its own, which ends with the driver; only the driver makes tables."""

import multiprocessing
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, SchemaError, StoreError
from harness.ledger_storage import is_there, open_storage
from harness.local_executor import deaf, leave_with_parent

HOST = "127.0.0.1"
"""The dashboard has no login and can delete studies: it is served to this machine alone."""

LOOK_SECONDS = 0.3
"""How often to look whether the driver has made the database."""


@contextmanager
def dashboard(where: str | Path, artifacts: Path, port: int) -> Iterator[str]:
    """Serve the dashboard meanwhile, as soon as there is a database; yields its address.

    Port 0: any free one. Raises ConfigError for a taken one.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"--dashboard-port {port} cannot be used ({error.strerror}): choose another one"
            ) from error
        port = probe.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(where, artifacts.absolute(), port), daemon=True
    )
    with deaf():
        process.start()
    try:
        yield f"http://{HOST}:{port}/dashboard/"
    finally:
        process.terminate()
        process.join(3)


def _serve(where: str | Path, artifacts: Path, port: int) -> None:
    """Answer requests until the driver is gone."""
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    from optuna.artifacts import FileSystemArtifactStore
    from optuna_dashboard import wsgi

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=leave_with_parent, daemon=True).start()

    class Silent(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: requests are not the user's business."""

    class Threaded(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    while not _is_there(where):
        time.sleep(LOOK_SECONDS)
    artifacts.mkdir(parents=True, exist_ok=True)
    try:
        storage = open_storage(where, create=False)
    except SchemaError:  # the driver says so
        return
    app = wsgi(storage, artifact_store=FileSystemArtifactStore(str(artifacts)))
    make_server(HOST, port, app, server_class=Threaded, handler_class=Silent).serve_forever()


def _is_there(where: str | Path) -> bool:
    """Whether the driver has made what the dashboard shows; what keeps it from that, it says itself."""
    try:
        return is_there(where)
    except StoreError:
        return False
