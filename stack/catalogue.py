"""Which parts there are under given settings, in the order they are listed and (reversed) stopped."""

import socket
from collections.abc import Iterable

from settings import PREFIX, Settings
from stack import dagster, kafka, mlflow, model_server_part, redis
from stack.errors import UnknownPart
from stack.jars import Report, silent
from stack.part import HUGE_PAGES, Part, answers_http, python

ADDRESSES = ("kafka_bootstrap", "redis_address", "mlflow_address", "model_server_address")
PORTS = (
    "kafka_port", "kafka_controller_port", "redis_port", "mlflow_port", "dagster_port", "model_server_port",
    "proxy_port", "admin_port", "metrics_port",
)  # fmt: skip


def catalogue(settings: Settings, *, report: Report = silent) -> dict[str, Part]:
    """The parts by name; one whose address the settings name elsewhere is not ours to start."""
    own: list[Part] = []
    if not settings.kafka_bootstrap:
        own.append(kafka.part(settings, report=report))
    if not settings.redis_address:
        own.append(redis.part(settings))
    if not settings.mlflow_address:
        own.append(mlflow.part(settings))
    if not settings.model_server_address:
        own.append(model_server_part.part(settings))
    own += dagster.parts(settings)
    here = {part.name for part in own}
    own.append(collector(settings, needs=[name for name in ("kafka", "redis") if name in here]))
    own.append(proxy(settings, needs=[name for name in ("kafka", "redis") if name in here]))
    return {part.name: part for part in own}


def collector(settings: Settings, *, needs: Iterable[str]) -> Part:
    """The consumer that writes offline tables and online features; its metrics page answers once it runs."""
    address = f"http://{settings.host}:{settings.metrics_port}/metrics"
    return Part(
        name="collector",
        command=python("collector", "run"),
        log=settings.logs / "collector.log",
        ports=(settings.metrics_port,),
        ready=answers_http(address),
        needs=tuple(needs),
        look=address,
    )


def proxy(settings: Settings, *, needs: Iterable[str]) -> Part:
    """The feed over HTTP; it does not wait for the model server, since it answers without it."""
    return Part(
        name="proxy",
        command=python("serving", "run"),
        log=settings.logs / "proxy.log",
        ports=(settings.proxy_port,),
        ready=answers_http(f"{settings.proxy}/healthz"),
        environment=HUGE_PAGES,
        needs=tuple(needs),
        look=f"{settings.proxy}/api/v1/content/feed",
    )


def chosen(parts: dict[str, Part], names: Iterable[str] | None) -> list[Part]:
    """The named parts and what they need, in catalogue order; all when `names` is None."""
    wanted = set(parts) if names is None else set(names)
    for name in sorted(wanted - set(parts)):
        raise UnknownPart(f"unknown part {name!r}; allowed are {', '.join(parts)}")
    for part in reversed(parts.values()):  # a part needs only parts listed before it
        if part.name in wanted:
            wanted |= set(part.needs)
    return [part for part in parts.values() if part.name in wanted]


def setting_of(settings: Settings, port: int) -> str:
    """The environment variable that a part's port comes from."""
    return next((PREFIX + name.upper() for name in PORTS if getattr(settings, name) == port), "its setting")


def with_free_ports(settings: Settings) -> Settings:
    """The same settings with a port of its own, free now, for every part."""
    probes = [socket.socket() for _ in PORTS]
    try:
        for probe in probes:
            probe.bind((settings.host, 0))
        free = {name: probe.getsockname()[1] for name, probe in zip(PORTS, probes, strict=True)}
    finally:
        for probe in probes:
            probe.close()
    return settings.model_copy(update=free)


def leaning_on(parts: dict[str, Part], names: Iterable[str]) -> list[Part]:
    """The named parts and every part that needs one of them; UnknownPart names the ones there are."""
    wanted = set(names)
    found = {part.name for part in chosen(parts, wanted)} & wanted
    while more := {part.name for part in parts.values() if found & set(part.needs)} - found:
        found |= more
    return [part for part in parts.values() if part.name in found]
