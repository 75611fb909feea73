"""`livefeed bench diversity --json`: what the feed's diversity parameter changes on a page, and what it costs.

Twenty worlds drawn from the prior, 100 viewers each, at 20:00 of their first day. A viewer's candidates are the 500 things
that the world's truth puts first for her; merit is that truth (probability of a click times that of an effective watch),
from 0 to 1 over the candidates, so nothing here is lost by a model's error. Every diversity lays out a page of 20 from the
same candidates, unexplored. Differences are to diversity 0; intervals are Student's over the worlds.

The truth of a page counts each of its things by itself: nobody is bored by the page she looks at. Costs are therefore at
their highest, and whether variety brings viewers back is not answered here. In the null control merits are shuffled among a
viewer's candidates: taste no longer clusters by kind and category. Diversity mixes such pages as well; `over_null` is how
much more it adds to pages whose merits do cluster.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from benchmarks.policies import interval
from benchmarks.result import Result, bar
from serving.arrange import AUDIO, LIVE, NO_PREFERENCE, VIDEO, ArrangeConfig, Ranked, Rows, arrange
from settings import Settings
from simulator import World
from simulator.population import CONTENT_TYPES
from simulator.truth import Outlook, Truth
from simulator.worlds import prior

DIVERSITIES = (0.0, 0.1, 0.2, 0.5, 1.0)
WORLDS, VIEWERS, CANDIDATES, LIMIT, AT_S = 20, 100, 500, 20, 20 * 3_600.0
SIZE: dict[str, Any] = {"viewers": VIEWERS, "hosts": 4_000, "creators": 200, "items": 600}
KINDS = {"video": VIDEO, "audio": AUDIO, "live": LIVE}
CODES = {"VIDEO": VIDEO, "AUDIO": AUDIO, "LIVE": LIVE}
UNEXPLORED = ArrangeConfig(epsilon=0.0)
UNCAPPED = ArrangeConfig(epsilon=0.0, creator_cap=LIMIT, category_cap=LIMIT)
TIMED = 2_000  # calls
MIX = ("category_entropy_bits", "kind_entropy_bits", "creator_gini")


class Case(NamedTuple):
    """One viewer's candidates, and the truth of what is on."""

    ranked: Ranked
    things: Rows  # rows of the outlook, one a candidate
    outlook: Outlook


@dataclass
class Pages:
    """What the pages of one world at one diversity showed; lists hold one number a page."""

    categories: list[float] = field(default_factory=list)  # entropy, bits
    kinds: list[float] = field(default_factory=list)  # entropy, bits
    merits: list[float] = field(default_factory=list)  # mean
    values: list[float] = field(default_factory=list)  # expected effective watches
    shown: Counter[int] = field(default_factory=Counter)  # places by kind
    creators: Counter[int] = field(default_factory=Counter)  # places by creator


def entropy(codes: Iterable[int]) -> float:
    """Bits of the shares of what is listed: 0 when it is all the same."""
    counts = np.array(list(Counter(codes).values()), dtype=np.float64)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def gini(counts: Sequence[int]) -> float:
    """0 when all have the same, towards 1 when one has everything."""
    ordered = np.sort(np.array(counts, dtype=np.float64))
    ranks = np.arange(1, len(ordered) + 1)
    return float((2 * ranks - len(ordered) - 1) @ ordered / (len(ordered) * ordered.sum()))


def cases(world: World) -> list[Case]:
    """Every viewer's candidates at 20:00."""
    at, truth = world.config.start_at.timestamp() + AT_S, Truth(world)
    shelf = world.shelf(at)
    number: dict[str, int] = {}
    creator = np.array([number.setdefault(thing.creator_id, len(number)) for thing in shelf.things], dtype=np.int32)
    category = np.array([thing.topics[0][0] for thing in shelf.things], dtype=np.int32)
    kind = np.array([CODES[name] for name in CONTENT_TYPES], dtype=np.int8)[shelf.kind]
    out = []
    for user_id in world.viewers:
        outlook = truth.of(user_id, at)
        worth = outlook.click * outlook.effective
        best = np.argsort(-worth, kind="stable")[:CANDIDATES]
        merit = (worth[best] - worth[best].min()) / (np.ptp(worth[best]) or 1.0)
        ranked = Ranked(merit, kind[best], creator[best], category[best], np.arange(len(best)))
        out.append(Case(ranked, best, outlook))
    return out


def shuffled(case: Case, rng: np.random.Generator) -> Case:
    """The same candidates with each other's merits."""
    return case._replace(ranked=replace(case.ranked, merit=rng.permutation(case.ranked.merit)))


def lay_out(world: World, played: Sequence[Case], diversity: float, *, config: ArrangeConfig = UNEXPLORED) -> Pages:
    """A page for every viewer."""
    pages, truth, dice = Pages(), Truth(world), random.Random(0)
    for ranked, things, outlook in played:
        rows = arrange(
            ranked, limit=LIMIT, diversity=diversity, preferred=NO_PREFERENCE, config=config, dice=dice
        ).places  # fmt: skip
        kinds, creators = ranked.kind[rows].tolist(), ranked.creator[rows].tolist()
        pages.categories.append(entropy(ranked.category[rows].tolist()))
        pages.kinds.append(entropy(kinds))
        pages.merits.append(float(ranked.merit[rows].mean()))
        ids = [outlook.things[row].item_id for row in things[rows].tolist()]
        pages.values.append(truth.page_value(outlook, ids).effective)
        pages.shown.update(kinds)
        pages.creators.update(creators)
    return pages


def figures_of(pages: Pages, reachable: int) -> dict[str, float]:
    """Means of one world; `reachable` is how many creators were among anybody's candidates."""
    places = pages.shown.total()
    counts = [*pages.creators.values(), *[0] * (reachable - len(pages.creators))]
    return {
        "category_entropy_bits": float(np.mean(pages.categories)), "kind_entropy_bits": float(np.mean(pages.kinds)),
        "creator_gini": gini(counts), "mean_merit": float(np.mean(pages.merits)),
        "effective_a_page": float(np.mean(pages.values)),
        **{f"{name}_share": pages.shown[code] / places for name, code in KINDS.items()},
    }  # fmt: skip


def against(found: Sequence[dict[str, float]], plain: Sequence[dict[str, float]]) -> dict[str, float | None]:
    """Differences to pages by merit, over the worlds, with their intervals."""
    pairs = list(zip(found, plain, strict=True))
    out: dict[str, float | None] = {}
    for name in MIX:
        out |= _spread(f"{name}_added", [one[name] - other[name] for one, other in pairs])
    out |= _spread("mean_merit_lost", [other["mean_merit"] - one["mean_merit"] for one, other in pairs])
    lost = [1.0 - one["effective_a_page"] / other["effective_a_page"] for one, other in pairs]
    return out | _spread("effective_lost_share", lost)


def over_null(found: dict[str, list[dict[str, float]]], name: str) -> dict[str, float | None]:
    """What a diversity adds to the mix of clustered merits beyond what it adds to shuffled ones, over the worlds."""
    out: dict[str, float | None] = {}
    for what in MIX:
        columns = [[one[what] for one in found[run]] for run in (name, "d0", f"null_{name}", "null_d0")]
        added = [(one - plain) - (null - bare) for one, plain, null, bare in zip(*columns, strict=True)]
        out |= _spread(f"{what}_added_over_null", added)
    return out


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    mean, low, high = interval(values)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def cpu_ms(case: Case, diversity: float) -> float:
    """CPU of one call with exploration, milliseconds: the least of five rounds, as others may use the machine."""
    dice, rounds, calls = random.Random(0), [], TIMED // 5
    for _ in range(5):
        began = time.process_time()
        for _ in range(calls):
            arrange(
                case.ranked, limit=LIMIT, diversity=diversity, preferred=VIDEO, config=ArrangeConfig(), dice=dice
            )  # fmt: skip
        rounds.append((time.process_time() - began) * 1e3 / calls)
    return min(rounds)


def measure(settings: Settings, seed: int, say: Callable[[str], None]) -> Result:
    """Every diversity on every world, with true and with shuffled merits, and the caps alone."""
    found: dict[str, list[dict[str, float]]] = {}
    played: list[Case] = []
    for number, config in enumerate(prior(seed, WORLDS)):
        world, rng = World(replace(config, **SIZE)), np.random.default_rng([seed, number])
        played = cases(world)
        reachable = len({code for case in played for code in case.ranked.creator.tolist()})
        mixed = [shuffled(case, rng) for case in played]
        runs = {f"d{value:g}": lay_out(world, played, value) for value in DIVERSITIES}
        runs |= {f"null_d{value:g}": lay_out(world, mixed, value) for value in DIVERSITIES}
        runs["uncapped_d0"] = lay_out(world, played, 0.0, config=UNCAPPED)
        for name, pages in runs.items():
            found.setdefault(name, []).append(figures_of(pages, reachable))
        say(
            f"world {number + 1} of {WORLDS}: {found['d0'][-1]['category_entropy_bits']:.2f} bits of categories by merit"
        )
    figures = summary(found)
    figures |= {f"d{value:g}_cpu_ms": cpu_ms(played[0], value) for value in DIVERSITIES}
    baseline: dict[str, float | None] = {
        f"uncapped_{what}": mean for what, mean in _means(found["uncapped_d0"]).items()
    }
    bars = (
        bar(figures, "d0.2_category_entropy_bits_added_low", ">", 0.0),
        bar(figures, "d0.2_kind_entropy_bits_added_low", ">", 0.0),
        bar(figures, "d0.5_category_entropy_bits_added_over_null_low", ">", 0.0),
        bar(figures, "d0.2_cpu_ms", "<", 0.15),
    )
    return Result(bench="diversity", figures=figures, baseline=baseline, bars=bars, seed=seed)


def summary(found: dict[str, list[dict[str, float]]]) -> dict[str, float | None]:
    """Figures of every run, by name, over the worlds."""
    figures: dict[str, float | None] = {}
    for name, worlds in found.items():
        if name == "uncapped_d0":
            continue
        null = name.startswith("null")
        figures |= {f"{name}_{what}": mean for what, mean in _means(worlds).items() if not null or what in MIX}
        if not name.endswith("d0"):
            changes = against(worlds, found["null_d0" if null else "d0"])
            changes |= {} if null else over_null(found, name)
            # what shuffled pages are truly worth says only which kinds are worth more in these worlds
            figures |= {
                f"{name}_{what}": value for what, value in changes.items() if not null or "effective" not in what
            }
    caps = against(found["d0"], found["uncapped_d0"])
    figures |= {f"caps_alone_{what}": value for what, value in caps.items()}
    return figures


def _means(worlds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {what: math.fsum(one[what] for one in worlds) / len(worlds) for what in worlds[0]}
