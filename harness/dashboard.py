"""The Optuna dashboard in a process of its own, which ends with the driver."""

import multiprocessing
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.database import optuna_url
from harness.errors import ConfigError
from harness.local_executor import leave_with_parent

HOST = "127.0.0.1"
"""The dashboard has no login and can delete studies: it is served to this machine alone."""


@contextmanager
def dashboard(where: str | Path, artifacts: Path, port: int) -> Iterator[str]:
    """Serve the dashboard meanwhile; yields its address. Port 0: any free one. Raises ConfigError for a taken one."""
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
        target=_serve, args=(optuna_url(where), artifacts.absolute(), port), daemon=True
    )
    process.start()
    try:
        yield f"http://{HOST}:{port}/dashboard/"
    finally:
        process.terminate()
        process.join(3)


def _serve(url: str, artifacts: Path, port: int) -> None:
    """Answer requests until the driver is gone."""
    import signal
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    from optuna.artifacts import FileSystemArtifactStore
    from optuna.storages import RDBStorage
    from optuna_dashboard import wsgi

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=leave_with_parent, daemon=True).start()

    class Silent(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: requests are not the user's business."""

    class Threaded(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    artifacts.mkdir(parents=True, exist_ok=True)
    storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {})
    app = wsgi(storage, artifact_store=FileSystemArtifactStore(str(artifacts)))
    make_server(HOST, port, app, server_class=Threaded, handler_class=Silent).serve_forever()
