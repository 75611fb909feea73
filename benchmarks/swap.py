"""`livefeed bench swap --json` or `python -m benchmarks.swap --swaps 20`: releases swapped under load, on the real parts.

Two releases take turns, each time as a new version, through the real deployment: published, loaded by the model server
beside the old one, tried, labelled, read back, in traffic at the proxy. Meanwhile viewers ask for feeds. A swap lasts from
the start of its deployment until two seconds after the proxy said that it has the release; p99 of the requests in swaps is
held against p99 of those outside, in the same run. The registry is one that remembers: MLflow answers no feed and is not part
of a swap. The intervals are 95 %: of a p99 by order statistics, of the ratio by drawing seconds anew.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import psutil
import typer

from benchmarks.feed import percentile
from benchmarks.own_parts import Say, cpu_s, own_parts, process_of
from benchmarks.result import BenchError, Result, bar
from benchmarks.swap_ground import Answer, bytes_of, fill, numbered, train, viewers
from registry.manifest import read_live
from registry.verdict import Outcome, Reason, Verdict
from release.deploy import deploy
from release.proxies import AdminProxy
from serving.tf_serving import TfServing
from settings import Settings

PARTS = ("kafka", "redis", "collector", "model-server", "proxy")
PASS = Verdict(outcome=Outcome.PASS, reasons=(Reason.BEATS_BASELINE,))
MAX_RATIO, DRAWS = 1.5, 1_000
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SwapConfig:
    """How much is swapped, and under which load."""

    swaps: int = 20
    clients: int = 2
    rate: float = 40.0  # requests a second, together
    after_s: float = 2.0  # that a swap lasts beyond the proxy's having it
    calm_s: float = 6.0  # between two swaps
    warm_s: float = 5.0  # before the first request that counts
    seed: int = 7


@dataclass
class Remembering:
    """A registry in memory."""

    champions: list[int] = field(default_factory=list)

    def promote(self, verdict: Verdict, *, line: str, version: int) -> None:
        """Note it."""
        self.alias(line, version)

    def alias(self, line: str, version: int) -> None:
        """Note it."""
        self.champions.append(version)


@dataclass(frozen=True)
class Window:
    """One swap: its release, monotonic seconds when it began, was deployed and ended; CPU seconds by process."""

    release: str
    begun: float
    deployed: float
    ended: float
    cpu: dict[str, float]


@dataclass(frozen=True)
class Run:
    """What was measured: requests from `begun` to `ended`, the swaps in between, CPU seconds by process in all."""

    begun: float
    ended: float
    answers: Sequence[Answer]
    windows: Sequence[Window]
    cpu: dict[str, float]
    busy: float | None = None  # share of the machine's cores in use, by whomever

    def swapping(self) -> list[bool]:
        """Of each answer, whether it was under way in a swap."""
        return [any(one.begun <= w.ended and one.ended >= w.begun for w in self.windows) for one in self.answers]

    def misplaced(self) -> int:
        """Requests begun between a deployment's end and the next one's beginning that another release answered."""
        bounds = [*self.windows[1:], None]
        return sum(
            one.release != window.release
            for window, after in zip(self.windows, bounds, strict=True)
            for one in self.answers
            if one.fine and one.begun > window.deployed and (after is None or one.begun < after.begun)
        )


def swap_under_load(
    settings: Settings, candidates: tuple[Path, Path], config: SwapConfig, *, folder: Path, say: Say,
    processes: dict[str, psutil.Process], first: int = 1,
) -> Run:  # fmt: skip
    """Deploy the candidates in turns while viewers ask; versions count up from `first`, which is deployed beforehand."""
    ends = {
        "releases": settings.releases, "models": settings.models, "server": TfServing(settings.model_server),
        "registry": Remembering(), "proxies": (AdminProxy(f"http://{settings.admin_host}:{settings.admin_port}"),),
    }  # fmt: skip
    versions = range(first, first + config.swaps + 1)
    made = [numbered(candidates[n % 2], folder, version) for n, version in enumerate(versions)]
    deploy(made[0], PASS, **ends)  # type: ignore[arg-type]
    with viewers(settings, clients=config.clients, rate=config.rate, seed=config.seed) as asking:
        time.sleep(config.warm_s)
        begun, before, machine = time.monotonic(), _cpu(processes), psutil.cpu_times()
        windows = []
        for number, candidate in enumerate(made[1:], 1):
            time.sleep(config.calm_s)
            windows.append(_swap(candidate, config, ends, processes))
            say(f"swap {number} of {config.swaps}: deployed in {windows[-1].deployed - windows[-1].begun:.1f} s")
        time.sleep(config.calm_s)
        ended, cpu, busy = time.monotonic(), _spent(before, _cpu(processes)), _busy(machine, psutil.cpu_times())
        answers = [one for one in asking.stop() if begun <= one.begun < ended]
    return Run(begun, ended, answers, windows, cpu, busy)


def _swap(candidate: Path, config: SwapConfig, ends: dict[str, object], processes: dict[str, psutil.Process]) -> Window:
    begun, before = time.monotonic(), _cpu(processes)
    name = deploy(candidate, PASS, **ends)  # type: ignore[arg-type]
    deployed = time.monotonic()
    time.sleep(config.after_s)
    return Window(name, begun, deployed, time.monotonic(), _spent(before, _cpu(processes)))


def _cpu(processes: dict[str, psutil.Process]) -> dict[str, float]:
    return {name: cpu_s(process) for name, process in processes.items()}


def _spent(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before[name] for name in after}


def _busy(before: Any, after: Any) -> float:
    """Share of the time between two psutil.cpu_times in which cores were not idle."""
    idle = after.idle + after.iowait - before.idle - before.iowait
    return float(min(1.0, max(0.0, 1.0 - idle / max(sum(after) - sum(before), 1e-9))))


def measure(settings: Settings, seed: int, say: Say, *, config: SwapConfig | None = None) -> Result:
    """Start parts of its own, train two candidates, swap them under load, and hold errors and p99 against the bars."""
    config = config or SwapConfig(seed=seed)
    settings = settings.model_copy(update={"clock": "request", "commit_every_s": 1.0})
    with tempfile.TemporaryDirectory(prefix="livefeed-swap-") as scratch:
        candidates = train(Path(scratch), seed, say)
        with own_parts(settings, PARTS, say=say) as (parts, own):
            fill(own, say)
            parts.down(["collector"], report=say)
            processes = {"model_server": process_of(parts, "model-server"), "proxy": process_of(parts, "proxy")}
            run = swap_under_load(own, candidates, config, folder=Path(scratch), say=say, processes=processes)
            if read_live(own.releases)["stable"] != run.windows[-1].release:
                raise BenchError(f"live.json does not name {run.windows[-1].release} after the last swap")
        sizes = [bytes_of(candidate) / 2**20 for candidate in candidates]
    return result(run, seed, sizes)


def result(run: Run, seed: int, sizes_mb: Sequence[float]) -> Result:
    """The run in figures."""
    swapping = np.array(run.swapping(), bool)
    took = np.array([(one.ended - one.begun) * 1e3 for one in run.answers])
    inside, outside = took[swapping], took[~swapping]
    seconds = sum(window.ended - window.begun for window in run.windows)
    deployed = [window.deployed - window.begun for window in run.windows]
    figures: dict[str, float | None] = {
        "swaps": float(len(run.windows)),
        "errors": float(sum(not one.fine for one in run.answers)),
        "degraded": float(sum(bool(one.degraded) for one in run.answers)),
        "wrong_release": float(run.misplaced()),
        "swap_requests": float(len(inside)),
        "swap_requests_fewest": float(min(_counts(run), default=0)),
        "swap_p50_ms": percentile(inside.tolist(), 0.5),
        "swap_max_ms": float(inside.max(initial=0.0)),
        "deploy_p50_s": percentile(deployed, 0.5),
        "deploy_max_s": max(deployed, default=None),
        "models_small_mb": sizes_mb[0],
        "models_large_mb": sizes_mb[1],
    }
    for name, spent in run.cpu.items():
        in_swaps = sum(window.cpu[name] for window in run.windows)
        figures[f"swap_{name}_cpu_share"] = in_swaps / seconds if seconds else None
        figures[f"calm_{name}_cpu_share"] = (spent - in_swaps) / (run.ended - run.begun - seconds)
    figures |= _p99("swap", inside) | _ratio(run, swapping, took, seed)
    baseline: dict[str, float | None] = {
        "calm_requests": float(len(outside)),
        "calm_degraded": float(
            sum(bool(one.degraded) for one, in_swap in zip(run.answers, swapping, strict=True) if not in_swap)
        ),
        "machine_busy_share": run.busy,  # near 1.0 other work is measured too: the bars need a core to spare
        "calm_p50_ms": percentile(outside.tolist(), 0.5),
        "calm_max_ms": float(outside.max(initial=0.0)),
        **_p99("calm", outside),
    }
    bars = (
        *(bar(figures, name, "<=", 0.0) for name in ("errors", "degraded", "wrong_release")),
        bar(figures, "p99_ratio", "<=", MAX_RATIO),
    )
    return Result(bench="swap", figures=figures, baseline=baseline, bars=bars, seed=seed)


def _counts(run: Run) -> list[int]:
    return [sum(one.begun <= w.ended and one.ended >= w.begun for one in run.answers) for w in run.windows]


def _p99(name: str, took: Floats) -> dict[str, float | None]:
    """p99 with the order statistics between which the true one lies, 95 times in a hundred."""
    n, ranked = len(took), np.sort(took)
    if not n:
        return {f"{name}_p99_ms": None, f"{name}_p99_low_ms": None, f"{name}_p99_high_ms": None}
    half = 1.96 * (n * 0.99 * 0.01) ** 0.5
    places = [min(n - 1, max(0, int(n * 0.99 + shift))) for shift in (0.0, -half, half)]
    return dict(
        zip((f"{name}_p99_ms", f"{name}_p99_low_ms", f"{name}_p99_high_ms"), ranked[places].tolist(), strict=True)
    )


def _ratio(run: Run, swapping: npt.NDArray[np.bool_], took: Floats, seed: int) -> dict[str, float | None]:
    """p99 in swaps over p99 outside; the interval from drawing whole seconds anew, since slow requests come together."""
    names = ("p99_ratio", "p99_ratio_low", "p99_ratio_high")
    if not swapping.any() or swapping.all():
        return dict.fromkeys(names)
    second = np.array([int(one.begun - run.begun) for one in run.answers])
    rng, ratios = np.random.default_rng(seed), []
    sides = [[took[mask & (second == at)] for at in np.unique(second[mask])] for mask in (swapping, ~swapping)]
    for _ in range(DRAWS):
        high = [
            np.quantile(np.concatenate([blocks[at] for at in rng.integers(len(blocks), size=len(blocks))]), 0.99)
            for blocks in sides
        ]
        ratios.append(high[0] / high[1])
    inside, outside = (percentile(took[mask].tolist(), 0.99) for mask in (swapping, ~swapping))
    low, top = np.quantile(ratios, (0.025, 0.975)).tolist()
    return dict(zip(names, (inside / outside if inside and outside else None, low, top), strict=True))


def main(
    swaps: Annotated[int, typer.Option(min=1, help="How often a release is swapped for the other.")] = 20,
    rate: Annotated[float, typer.Option(min=1.0, help="Requests a second.")] = 40.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the load and of the training.")] = 7,
) -> None:
    """Swap releases under load; print one JSON line; exit 1 when a bar does not hold."""
    config = SwapConfig(swaps=swaps, rate=rate, seed=seed)
    try:
        found = measure(Settings(), seed, lambda line: print(line, file=sys.stderr, flush=True), config=config)
    except BenchError as error:
        print(f"swap: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(found.line())
    if not all(held.holds for held in found.bars):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
