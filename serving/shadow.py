"""A release in shadow answers nobody: behind the request's back it chooses for the explored places, and that is logged.

    explored_at(page, place, epsilon=0.2)    # what every impression at an explored place says of its dice
    shadow.take(seen, impressions)           # -> those that need not wait; the others follow scored, or as they are

Off-policy evaluation reads it (docs/guides/off-policy.md). An answer never waits for the shadow and never fails by it.
Impressions that wait in memory are lost when the process is killed: the one or two explored ones of at most `queue` pages.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

import numpy as np
from msgspec import structs

from events.schema import Explored, Impression, Shadowed
from registry.experiment import Experiment
from registry.manifest import RANKER
from serving.arrange import NO_PREFERENCE, ArrangeConfig, Page, Ranked, choice_at
from serving.assignment import place as place_of
from serving.breaker import Breakers
from serving.errors import ModelRefused, ModelUnavailable
from serving.feed import FeedRequest
from serving.item_columns import KIND_OF
from serving.metrics import Metrics
from serving.models import Models
from serving.ranking import Floats, Scores, ask_ranker, by_model
from serving.retrieval import Retrieval
from serving.sides import Pool, Raw, Viewer, shared_part
from serving.trend import Trend

# What becomes of a page with explored places while a release is in shadow.
SCORED, NOT_DRAWN, UNSCORED, NOT_LOADED = "scored", "not_drawn", "unscored", "not_loaded"
FULL, LATE, RESTS, FAILED = "full", "late", "rests", "failed"


@dataclass(frozen=True)
class ShadowConfig:
    """How much a shadow may take."""

    queue: int = 64  # pages that wait; what comes on top is logged without the shadow's choice
    patience_s: float = 1.0  # that a page waits for its turn
    ask_s: float = 0.25  # for the ranker's answer


DEFAULT = ShadowConfig()


@dataclass(frozen=True)
class Seen:
    """One answered page: the request, and the candidates as the answering release saw, scored and laid them out."""

    request: FeedRequest
    viewer: Viewer
    pool: Pool
    scores: Scores
    raw: Raw | None  # None where the ranker was not asked
    trend: Trend
    ranked: Ranked
    page: Page


@dataclass(frozen=True)
class _Waiting:
    """A page whose explored impressions wait."""

    experiment: Experiment
    seen: Seen
    impressions: tuple[Impression, ...]
    since: float


def explored_at(page: Page, place: int, *, epsilon: float) -> Explored:
    """The dice of an explored place."""
    pool = page.pool_at(place)
    drawn = page.places[place] != page.by_merit[place]
    rank = int(np.flatnonzero(pool == page.places[place])[0]) if drawn else None
    return Explored(epsilon=epsilon, pool=len(pool), rank=rank)


class Shadow:
    """Takes explored impressions from request threads; one thread of its own has them scored and logged."""

    def __init__(
        self, watch: Callable[[], Experiment | None], retrievals: Callable[[], Mapping[str, Retrieval]], models: Models,
        *, log: Callable[[Sequence[Impression]], None], breakers: Breakers, metrics: Metrics,
        report: Callable[[str], None], arrange: ArrangeConfig, config: ShadowConfig = DEFAULT,
    ) -> None:  # fmt: skip
        self._watch, self._retrievals, self._models = watch, retrievals, models
        self._log, self._breakers, self._metrics, self._report = log, breakers, metrics, report
        self._arrange, self._config = arrange, config
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self.trouble = ""  # why the last page was not scored; empty when it was

    @property
    def experiment(self) -> Experiment | None:
        """The experiment whose release is in shadow now; None, which is cheap to find, for none."""
        return self._watch()

    def start(self) -> None:
        """Begin to score."""
        self._thread.start()

    def take(self, experiment: Experiment, seen: Seen, impressions: Sequence[Impression]) -> Sequence[Impression]:
        """The impressions of a page to log at once; never waits for the shadow and never fails."""
        explored = tuple(one for one in impressions if one.explored is not None)
        if not explored:
            return impressions
        refused = self._refused(experiment, seen)
        if refused:
            self._count(refused)
            return impressions
        self._queue.put(_Waiting(experiment, seen, explored, time.monotonic()))
        return [one for one in impressions if one.explored is None]

    def step(self) -> None:
        """Score and log what waits; a test's turn, too."""
        while True:
            try:
                waiting = self._queue.get_nowait()
            except Empty:
                return
            if waiting is not None:
                self._turn(waiting)

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Log what waits as it is, and stop."""
        self._closing = True
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self.step()

    def _run(self) -> None:
        while (waiting := self._queue.get()) is not None:
            self._turn(waiting)

    def _turn(self, waiting: _Waiting) -> None:
        try:
            self._serve(waiting)
        except Exception as failure:  # noqa: BLE001  the thread's outermost boundary: the next page waits
            self._say(repr(failure))

    def _refused(self, experiment: Experiment, seen: Seen) -> str:
        """Why a page is logged as it is; "" for one that is to be scored."""
        if place_of(experiment.salt, seen.request.request_id) >= experiment.shadow_share:
            return NOT_DRAWN
        if seen.raw is None or seen.scores.by_objective is None:
            return UNSCORED
        if self._retrieval(experiment) is None:
            return NOT_LOADED
        return FULL if self._closing or self._queue.qsize() >= self._config.queue else ""

    def _retrieval(self, experiment: Experiment) -> Retrieval | None:
        return self._retrievals().get(_label(experiment))

    def _serve(self, waiting: _Waiting) -> None:
        """Log a page's explored impressions once, whatever becomes of the scoring."""
        outcome, found = FAILED, dict[int, Shadowed]()
        try:
            outcome, found = self._scored(waiting)
        finally:
            self._count(outcome)
            self._log([_with(one, found.get(one.position)) for one in waiting.impressions])

    def _scored(self, waiting: _Waiting) -> tuple[str, dict[int, Shadowed]]:
        """What became of it, and the shadow's choices by place."""
        retrieval = self._retrieval(waiting.experiment)
        if retrieval is None:
            return NOT_LOADED, {}
        if self._closing or time.monotonic() - waiting.since > self._config.patience_s:
            return LATE, {}
        breaker = self._breakers.of(_label(waiting.experiment), RANKER)
        if not breaker.admits():
            return RESTS, {}
        try:
            merit = _merit(waiting.seen, retrieval, self._models, timeout_s=self._config.ask_s)
        except (ModelUnavailable, ModelRefused) as error:
            breaker.failed(str(error))
            self._say(str(error))
            return FAILED, {}
        breaker.answered()
        self._say("")
        return SCORED, _choices(waiting, merit, retrieval.release.name, self._arrange)

    def _count(self, outcome: str) -> None:
        self._metrics.shadowed.labels(outcome).inc()

    def _say(self, trouble: str) -> None:
        """Report a trouble when it begins and when it is over."""
        if bool(trouble) != bool(self.trouble):
            self._report(f"shadow: {trouble or 'answers again'}")
        self.trouble = trouble


def _label(experiment: Experiment) -> str:
    """Of the release in shadow."""
    return next(arm.label for arm in experiment.arms if arm.name == experiment.canary)


def _merit(seen: Seen, retrieval: Retrieval, models: Models, *, timeout_s: float) -> Floats:
    """What the release in shadow thinks of all candidates, [n]: its merits are scaled over all of them, as anybody's are."""
    assert seen.raw is not None
    release = retrieval.release
    user = release.encode_user(shared_part(seen.viewer, seen.request.surface))
    inputs = {**retrieval.codes.inputs(seen.pool, seen.raw, seen.request.surface), **user}
    answers = ask_ranker(models, release, inputs, len(seen.pool.rows), timeout_s=timeout_s)
    return by_model(seen.pool, answers, release, seen.trend, cold=seen.viewer.cold).merit


def _choices(waiting: _Waiting, merit: Floats, release: str, config: ArrangeConfig) -> dict[int, Shadowed]:
    """The choice at each explored place whose impression waits."""
    seen, page = waiting.seen, waiting.seen.page
    assert seen.scores.by_objective is not None
    ranked = replace(seen.ranked, merit=merit)
    preferred = KIND_OF.get(seen.viewer.preferred, NO_PREFERENCE)
    out = {}
    for one in waiting.impressions:
        assert one.explored is not None
        at, epsilon = one.position, one.explored.epsilon
        choice = choice_at(ranked, page, at, diversity=seen.request.diversity, preferred=preferred, config=config)
        drawn = seen.scores.by_objective[page.pool_at(at)].mean(axis=0, dtype=np.float64).tolist()
        out[at] = Shadowed(
            release=release, chose_shown=choice == int(page.places[at]),
            expected_target=_expected(seen.scores.of(choice), drawn, epsilon),
            expected_incumbent=_expected(seen.scores.of(int(page.by_merit[at])), drawn, epsilon),
        )  # fmt: skip
    return out


def _expected(chosen: Mapping[str, float], drawn: Sequence[float], epsilon: float) -> dict[str, float]:
    """By objective: the choice's score with probability 1 - epsilon, else the pool's mean."""
    return {name: (1.0 - epsilon) * p + epsilon * luck for (name, p), luck in zip(chosen.items(), drawn, strict=True)}


def _with(impression: Impression, shadowed: Shadowed | None) -> Impression:
    if shadowed is None or impression.explored is None:
        return impression
    return structs.replace(impression, explored=structs.replace(impression.explored, shadow=shadowed))
