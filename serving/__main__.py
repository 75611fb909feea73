"""`livefeed serving run` (also `python -m serving run`): the feed proxy, until SIGTERM or Ctrl-C."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import typer

from settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from serving.admin import LogLevel
    from serving.admin_server import AdminServer
    from serving.http import Edge
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
    """Run to the end; exit code 0, or 1 when a setting or the port cannot be used."""
    from features.garbage import seldom_pass_over_everything
    from serving.admin import LogLevel
    from serving.errors import ServingError
    from serving.processes import allow_files, limit_threads, log_json

    limit_threads()
    allow_files()
    level = LogLevel()
    log_json()
    structlog.configure(processors=[level, *structlog.get_config()["processors"]])
    seldom_pass_over_everything()
    proxy = _proxy(settings)
    try:
        edge, admin = _edge(settings), _admin(settings, proxy, level)
    except ServingError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    proxy.start()
    admin.start()
    try:
        return _answer(settings, proxy, edge)
    finally:
        admin.stop()
        proxy.close()


def _answer(settings: Settings, proxy: "Proxy", edge: "Edge") -> int:
    """Answer feeds until a signal."""
    import uvicorn

    from serving.connections import ConnectionConfig, guarded
    from serving.http import create_app
    from serving.processes import SleepingServer, outlive_signals

    config = uvicorn.Config(
        create_app(proxy.parts, proxy.clock, edge=edge),
        host=settings.host,
        port=settings.proxy_port,
        loop="uvloop",
        http=guarded(ConnectionConfig()),
        ws="none",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # anybody could say another address than her own
        log_level="error",
        timeout_graceful_shutdown=5,
    )
    server = SleepingServer(config)
    outlive_signals()
    server.run()
    return 0 if server.started else 1


def _edge(settings: Settings) -> "Edge":
    from events.clock import WallClock
    from serving.cursor import Signer, key_of
    from serving.http import Edge
    from serving.limits import LimitConfig
    from serving.paging import Fresh
    from serving.pipeline import recommend, shed
    from serving.tokens import TokenConfig, Tokens

    signer = Signer(key_of(settings.cursor_key, settings.var / "serving" / "cursor.key"))
    config = TokenConfig(settings.token_issuer, settings.token_audience, settings.token_leeway_s)
    report = structlog.get_logger().warning
    keys = Path(settings.token_keys)
    tokens = Tokens(keys, WallClock(), config=config, report=report) if settings.token_keys else None
    limits = LimitConfig(
        viewer_per_s=settings.viewer_rate, address_per_s=settings.address_rate, feeds_at_once=settings.feeds_at_once
    )
    return Edge(pager=Fresh(recommend, signer), shed=Fresh(shed, signer), tokens=tokens, limits=limits)


def _admin(settings: Settings, proxy: "Proxy", level: "LogLevel") -> "AdminServer":
    from serving.admin import AdministrationOf, create_admin
    from serving.admin_server import AdminServer

    return AdminServer(
        create_admin(AdministrationOf(proxy.parts, proxy.assignment), level, token=settings.admin_token),
        host=settings.admin_host,
        port=settings.admin_port,
        token=settings.admin_token,
        report=structlog.get_logger().warning,
    )


def _proxy(settings: Settings) -> "Proxy":
    from events.fast_kafka import FastKafkaWriter
    from features.redis import RedisStore
    from serving.arrange import ArrangeConfig
    from serving.attempt import FeedConfig
    from serving.wiring import BACKGROUND_TIMEOUT_S, WRITER_TIMEOUT_S, build

    explored = ArrangeConfig(epsilon=settings.explore_epsilon, pool=settings.explore_pool)
    config = FeedConfig(budget_s=settings.request_budget_ms / 1_000.0, arrange=explored)
    share = config.deadlines
    return build(
        RedisStore(settings.redis, timeout_s=config.budget_s * share.hydrate, altogether=True),
        lambda: FastKafkaWriter(settings.kafka, timeout_s=WRITER_TIMEOUT_S),
        model_server=settings.model_server,
        releases=settings.releases,
        spool=Path(settings.var) / "spool" / "impressions.jsonl",
        config=config,
        follows_requests=settings.clock == "request",
        background_store=RedisStore(settings.redis, timeout_s=BACKGROUND_TIMEOUT_S),
        recheck_store=RedisStore(settings.redis, timeout_s=config.budget_s * share.recheck, altogether=True),
    )


if __name__ == "__main__":
    app()
