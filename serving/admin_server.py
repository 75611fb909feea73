"""Serves the administration beside the feed, in a thread of its own, until `stop`."""

import socket
import threading
from collections.abc import Callable

import uvicorn

from serving.admin import check_binding
from serving.answers import App
from serving.processes import SleepingServer


class AdminServer:
    """The administration on its port; without it when the port cannot be had, which is reported: feeds do not need it."""

    def __init__(self, app: App, *, host: str, port: int, token: str, report: Callable[[str], None]) -> None:
        check_binding(host, token)
        self._server: SleepingServer | None = None
        try:
            listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            report(f"administration: {host} port {port} cannot be had ({error}); the proxy goes without")
            return
        self.port: int = listening.getsockname()[1]
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            access_log=False,
            server_header=False,
            log_level="error",
            log_config=None,
            lifespan="off",
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        self._server = SleepingServer(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="administration", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        if self._server is not None:
            self._thread.start()

    def stop(self) -> None:
        """End."""
        if self._server is not None:
            self._server.end()
            self._thread.join(5.0)
