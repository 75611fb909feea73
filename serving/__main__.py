"""`livefeed serving run` (also `python -m serving run`): the feed proxy, until SIGTERM or Ctrl-C."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from serving.wiring import Proxy

app = typer.Typer(help="Answer feeds over HTTP.")


@app.callback()
def serving() -> None:
    """Answer feeds over HTTP."""


@app.command()
def run() -> None:
    """Serve feeds until SIGTERM or Ctrl-C; impressions that wait are sent or spooled before it ends."""
    try:
        settings = load()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(1) from None
    raise typer.Exit(_serve(settings))


def _serve(settings: Settings) -> int:
    """Run to the end; exit code 0, or 1 when the port cannot be had."""
    import uvicorn

    from features.garbage import seldom_pass_over_everything
    from serving.http import create_app
    from serving.processes import limit_threads, log_json, outlive_signals

    limit_threads()
    log_json()
    seldom_pass_over_everything()
    proxy = _proxy(settings)
    proxy.start()
    try:
        config = uvicorn.Config(
            create_app(proxy.parts, proxy.clock),
            host=settings.host,
            port=settings.proxy_port,
            loop="uvloop",
            http="httptools",
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        outlive_signals()
        server.run()
    finally:
        proxy.close()
    return 0 if server.started else 1


def _proxy(settings: Settings) -> "Proxy":
    from events.kafka import KafkaWriter
    from features.redis import RedisStore
    from serving.wiring import BACKGROUND_TIMEOUT_S, STORE_TIMEOUT_S, WRITER_TIMEOUT_S, build

    return build(
        RedisStore(settings.redis, timeout_s=STORE_TIMEOUT_S),
        lambda: KafkaWriter(settings.kafka, timeout_s=WRITER_TIMEOUT_S),
        model_server=settings.model_server,
        releases=settings.releases,
        spool=Path(settings.var) / "spool" / "impressions.jsonl",
        budget_s=settings.request_budget_ms / 1_000.0,
        follows_requests=settings.clock == "request",
        background_store=RedisStore(settings.redis, timeout_s=BACKGROUND_TIMEOUT_S),
    )


if __name__ == "__main__":
    app()
