"""The swap benchmark: its windows and figures by hand, and three swaps under load on the real parts."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks.swap import Run, SwapConfig, Window, result, swap_under_load
from benchmarks.swap_ground import NOW as BENCH_NOW
from benchmarks.swap_ground import Answer
from events.kafka import KafkaWriter
from features.definitions import Entity
from features.redis import RedisStore
from registry.manifest import point_live, read_live, read_manifest, write_manifest
from registry.mlflow_store import MlflowRegistry
from release.served import labelled
from serving.release_store import load_release
from serving.tf_serving import TfServing
from stack.parts import Parts
from tests.serving.small_world import NOW, SmallWorld
from tests.serving.test_real_parts import Loud, until


def answers(*rows: tuple[float, float, str]) -> list[Answer]:
    """Good answers: when each began, how many milliseconds it took, which release."""
    return [Answer(begun, begun + took / 1e3, True, "", release) for begun, took, release in rows]


def swap(begun: float, deployed: float, ended: float, release: str = "b") -> Window:
    return Window(release, begun, deployed, ended, {"proxy": 1.0})


def test_a_request_belongs_to_a_swap_when_any_of_it_falls_into_one() -> None:
    rows = answers((0.9, 50, "a"), (0.9, 200, "a"), (1.5, 10, "a"), (3.0, 10, "b"), (3.1, 10, "b"))
    run = Run(0.0, 4.0, rows, [swap(1.0, 2.0, 3.05)], {"proxy": 2.0})
    assert run.swapping() == [False, True, True, True, False]


def test_what_another_release_answers_after_a_deployment_is_counted() -> None:
    rows = answers((1.5, 1, "a"), (2.5, 1, "b"), (2.6, 1, "a"), (5.5, 1, "b"), (6.5, 1, "b"), (7.0, 1, "c"))
    run = Run(0.0, 8.0, rows, [swap(1.0, 2.0, 3.0, "b"), swap(5.0, 6.0, 7.0, "c")], {"proxy": 0.0})
    assert run.misplaced() == 2  # at 2.6 the old one, at 6.5 the one before


def test_the_bars_are_errors_degraded_wrong_releases_and_the_ratio() -> None:
    rows = [Answer(n / 100, n / 100 + (0.030 if 200 <= n < 300 else 0.010), True, "", "a") for n in range(1000)]
    rows[5] = rows[5]._replace(fine=False)
    rows[7] = rows[7]._replace(degraded="model_unavailable")
    found = result(Run(0.0, 10.0, rows, [swap(2.0, 2.9, 2.99, "a")], {"proxy": 4.0}), 7, (1.0, 2.0))
    held = {one.name: (one.value, one.holds) for one in found.bars}
    assert held["errors"] == (1.0, False)
    assert held["degraded"] == (1.0, False)
    assert held["wrong_release"] == (0.0, True)
    assert held["p99_ratio"] == (pytest.approx(3.0), False)
    assert found.figures["swap_proxy_cpu_share"] == pytest.approx(1.0 / 0.99)
    assert found.figures["calm_proxy_cpu_share"] == pytest.approx(3.0 / 9.01)


def test_the_interval_of_a_p99_is_between_the_order_statistics_around_it() -> None:
    rows = [Answer(n / 100, n / 100 + n / 1e6, True, "", "a") for n in range(10_000)]  # 0 to 9.999 ms
    found = result(Run(0.0, 100.0, rows, [swap(200.0, 201.0, 202.0)], {"proxy": 0.0}), 7, (1.0, 2.0))
    # 1.96 standard deviations of a binomial with n 10,000 and p 0.01 are 19.5 places of 0.001 ms
    low, high = found.baseline["calm_p99_low_ms"], found.baseline["calm_p99_high_ms"]
    assert (low, high) == (pytest.approx(9.880, abs=0.002), pytest.approx(9.919, abs=0.002))
    assert found.figures["p99_ratio"] is None  # nothing was asked in a swap, and that does not hold
    assert not found.bars[-1].holds


@pytest.fixture
def world(parts: Parts, tmp_path: Path) -> Iterator[SmallWorld]:
    """The small world in the stores of the real parts; what was in traffic before is so again."""
    world = Loud(tmp_path)
    world.writer = KafkaWriter(parts.settings.kafka)
    world.name._next = time.time_ns()  # event ids of this run alone
    world.fill()
    world.writer.flush()
    store = RedisStore(parts.settings.redis)
    until(lambda: {"m29", "r2"} <= set(store.ids(Entity.ITEM)))
    before = read_live(parts.settings.releases)
    yield world
    world.writer.close()
    store.close()
    point_live(parts.settings.releases, before)


@pytest.mark.parts
def test_three_swaps_under_load_fail_and_degrade_nothing(parts: Parts, world: SmallWorld, tmp_path: Path) -> None:
    from tests.serving.small_models import write_models

    assert BENCH_NOW == NOW
    made = []
    for name in ("one", "other"):
        folder = tmp_path / name
        shutil.copytree(world.release(1, live=False), folder)
        write_manifest(folder, msgspec.structs.replace(read_manifest(folder), line="swaptest"))
        write_models(folder, world.encoder())
        made.append(folder)
    first = MlflowRegistry(parts.settings.mlflow).next_version("swaptest") + 1_000_000  # in nobody's way
    config = SwapConfig(swaps=3, rate=20.0, after_s=1.0, calm_s=1.0, warm_s=2.0)
    run = swap_under_load(
        parts.settings, (made[0], made[1]), config, folder=tmp_path, say=print, processes={}, first=first
    )
    assert len(run.answers) > 60
    assert [one for one in run.answers if not one.fine or one.degraded] == []
    assert run.misplaced() == 0
    assert {one.release for one in run.answers} == {f"swaptest-{first + n}" for n in range(4)}
    server = TfServing(parts.settings.model_server)
    assert [one.version for one in server.status("ranker") if one.state == "AVAILABLE"] == [first + 3, first + 2]
    found = labelled(server, load_release(parts.settings.releases / f"swaptest-{first + 3}"), "stable")
    assert found == {"two_tower": first + 3, "ranker": first + 3}
    server.close()
