"""The off-policy benchmark's ground: contexts of real worlds laid out by the real arranging, and logs drawn from them.

A context is one explored place of one viewer's page at one hour: what might have stood there, and from the simulator's truth
the exact probability of a click and of a completion for each choice. A log draws viewers with replacement, then what each
place shows, then what they do; a viewer's clicks have a mood of hers that no policy and no model knows.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit, logit, ndtri

from monitoring.off_policy_log import Floats, Ints, LoggedPlaces, Support
from monitoring.off_policy_model import RewardModel, cross_fitted
from serving.arrange import ArrangeConfig, Page, Ranked, arrange
from simulator import World
from simulator.policies import Ask, Overheard, Policy, PolicyFeed, make
from simulator.shelf import LIVE, Shelf
from simulator.streams import number_of, uniforms
from simulator.truth import Outlook, Truth
from simulator.worlds import prior

SIZE: dict[str, Any] = {"viewers": 500, "hosts": 250, "creators": 40, "items": 80}
WARM_UP_H, SNAPSHOTS = 36.0, 14  # then one look at every viewer who comes, each hour
PLACES = 5  # of a page; the last one is explored
ARRANGE = ArrangeConfig(pool=20)  # the product's, but for a smaller pool: a place's odds are then 0.01 at the least
MOOD = 0.5  # a viewer's clicks are half as many more, or fewer, as chance has it for all her visits
REWARDS = ("click", "completion")
# incumbent, candidate: a name, or a name and how far its merits are perturbed (standard deviation in log-odds)
PAIRS = (
    ("popularity", "oracle+0.5"), ("popularity", "popularity+1.0"), ("oracle+1.0", "oracle+0.2"),
    ("oracle+0.3", "oracle+2.0"), ("oracle+1.0", "repeat"),
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Two policies in one world: C contexts with at most K choices, the first by the incumbent's merit, the rest its pool."""

    name: str
    epsilon: float
    viewer: Ints  # [C]
    size: Ints  # [C] choices
    pick: Ints  # [C] the candidate's, a column
    reward: dict[str, Floats]  # exact probabilities [C, K]
    features: Floats  # [C, K, k] of the reward model: what both policies think, and the kind

    def odds(self, column: Ints, choice: Ints, context: Ints) -> Floats:
        """Probability that each context's `choice` is shown when `column` is the one by merit."""
        in_pool = (choice > 0) * self.epsilon / (self.size[context] - 1)
        return np.asarray(in_pool + (1.0 - self.epsilon) * (column[context] == choice))

    def expected(self, column: Ints, of: Floats) -> Floats:
        """Mean of `of` [C, K] over what is shown when `column` is the one by merit, [C]."""
        rows, drawable = np.arange(len(column)), self.size - 1
        pooled = np.where(np.arange(of.shape[1]) < self.size[:, None], of, 0.0)[:, 1:].sum(1) / drawable
        return np.asarray((1.0 - self.epsilon) * of[rows, column] + self.epsilon * pooled)

    def truth(self, reward: str) -> tuple[float, float]:
        """The exact value a place of target and incumbent."""
        of, by_merit = self.reward[reward], np.zeros_like(self.pick)
        return float(self.expected(self.pick, of).mean()), float(self.expected(by_merit, of).mean())

    def null(self) -> "Pair":
        """Its twin in which the candidate's choice is worth exactly what the incumbent's is."""
        twin = {name: of.copy() for name, of in self.reward.items()}
        for of in twin.values():
            of[np.arange(len(of)), self.pick] = of[:, 0]
        return replace(self, name=f"{self.name} of equal worth", reward=twin)

    def same(self) -> "Pair":
        """Its twin whose candidate chooses as the incumbent does."""
        return replace(self, name=f"{self.name} alike", pick=np.zeros_like(self.pick))


def pairs(seed: int, worlds: int, say: Callable[[str], None]) -> Iterator[Pair]:
    """Every pair of policies in every world."""
    for number, config in enumerate(prior(seed, worlds)):
        seen = Seen(World(replace(config, **SIZE)))
        for incumbent, candidate in PAIRS:
            yield seen.pair(incumbent, candidate, name=f"world {number}: {incumbent} -> {candidate}")
        say(
            f"world {number + 1} of {worlds}: {len(seen.moments)} places, {len(seen.world.on(seen.world.now))} things on"
        )


@dataclass(frozen=True)
class Moment:
    """One viewer at one hour: everything that is on, and what each policy thinks of it, all [things]."""

    viewer: int
    shelf: Shelf
    outlook: Outlook
    merits: dict[str, Floats]
    worth: Callable[[Ints], float]  # rows of a page -> its expected clicks


class Seen:
    """A world that was looked at hour by hour."""

    def __init__(self, world: World, *, warm_up_h: float = WARM_UP_H, snapshots: int = SNAPSHOTS) -> None:
        self.world, self._truth = world, Truth(world)
        self._policies = {name: make(name, world) for name in ("popularity", "repeat")}
        feeds = {name: PolicyFeed(policy, world) for name, policy in self._policies.items()}
        ears = Overheard(feeds["repeat"], Overheard(feeds["popularity"]))
        self._names = {name: number for number, name in enumerate(world.viewers)}
        self.moments: list[Moment] = []
        world.advance(warm_up_h, ears, feeds["repeat"])
        for hour in range(snapshots):
            numbers = np.array([number_of(name) for name in world.viewers])
            often = 0.15 - 0.35 * np.log(uniforms(world.config.seed, "activity", numbers))  # a few come nearly always
            come = uniforms(world.config.seed, "visits", numbers, hour) < often
            for name in np.array(list(world.viewers))[come].tolist():
                self.moments.append(self._look(name))
            world.advance(1.0, ears, feeds["repeat"])

    def _look(self, viewer: str) -> Moment:
        now, shelf = self.world.now, self.world.shelf(self.world.now)
        outlook = self._truth.of(viewer, now)
        merits = {name: _merit(policy, Ask(viewer, now), shelf) for name, policy in self._policies.items()}
        merits["oracle"] = np.clip(outlook.click, 1e-6, 1 - 1e-6)
        for wanted in {one for pair in PAIRS for one in pair if "+" in one}:
            name, _, sigma = wanted.partition("+")
            luck = uniforms(self.world.config.seed, wanted, shelf.numbers, number_of(viewer))
            merits[wanted] = expit(logit(merits[name]) + float(sigma) * ndtri(np.clip(luck, 1e-9, 1 - 1e-9)))
        return Moment(self._names[viewer], shelf, outlook, merits, lambda rows: self._clicks(outlook, rows))

    def _clicks(self, outlook: Outlook, rows: Ints) -> float:
        return self._truth.page_value(outlook, [outlook.things[row].item_id for row in rows.tolist()]).clicks

    def pair(self, incumbent: str, candidate: str, *, name: str) -> Pair:
        """Lay out every moment's page by the incumbent, and let the candidate choose for its explored place."""
        rows = [found for one in self.moments if (found := explored(one, incumbent)) is not None]
        most = max(len(choices) for _, choices, *_ in rows)
        click, completion = np.zeros((len(rows), most)), np.zeros((len(rows), most))
        features, pick = np.zeros((len(rows), most, 3)), np.zeros(len(rows), np.int64)
        for number, (moment, choices, factor) in enumerate(rows):
            k = len(choices)
            click[number, :k] = factor * moment.outlook.click[choices]
            completion[number, :k] = click[number, :k] * moment.outlook.effective[choices]
            thought = np.stack([moment.merits[policy][choices] for policy in (incumbent, candidate)], axis=1)
            features[number, :k, :2] = logit(np.clip(thought, 1e-4, 1 - 1e-4))
            features[number, :k, 2] = moment.shelf.kind[choices] == LIVE
            pick[number] = int(thought[:, 1].argmax())
        return Pair(
            name, ARRANGE.epsilon, np.array([moment.viewer for moment, *_ in rows]),
            np.array([len(choices) for _, choices, _ in rows]), pick, {"click": click, "completion": completion}, features,
        )  # fmt: skip


def _merit(policy: Policy, ask: Ask, shelf: Shelf) -> Floats:
    scores = policy.scores(ask, shelf)
    return np.clip(scores / max(float(scores.max(initial=0.0)), 1e-9), 1e-4, 1 - 1e-4)


def explored(moment: Moment, incumbent: str) -> tuple[Moment, Ints, float] | None:
    """The explored place's choices as rows of the shelf, and what its clicks are of the click probabilities; None if none."""
    shelf = moment.shelf
    makers = np.unique([thing.creator_id for thing in shelf.things], return_inverse=True)[1].astype(np.int32)
    category = np.array([thing.topics[0][0] for thing in shelf.things], np.int32)
    ranked = Ranked(
        moment.merits[incumbent], shelf.kind.astype(np.int8), makers, category, np.arange(len(shelf.things))
    )
    page: Page = arrange(
        ranked, limit=PLACES, diversity=0.0, preferred=-1, config=ARRANGE, dice=random.Random(0)
    )  # fmt: skip
    place = PLACES - 1
    if len(page.places) < PLACES or not page.explored[place]:
        return None
    by_merit, above = page.by_merit[place], page.by_merit[:place]
    choices = np.r_[by_merit, page.pool_at(place)]
    more = moment.worth(np.r_[above, by_merit]) - moment.worth(above)
    return moment, choices, more / float(moment.outlook.click[by_merit])


@dataclass(frozen=True)
class Log:
    """What an incumbent logged: the explored places, by reward."""

    places: dict[str, LoggedPlaces]
    support: Support
    epsilon: float


def played(pair: Pair, rng: np.random.Generator, *, viewers: int, predicted: bool = True) -> Log:
    """A log of so many viewers, drawn with replacement from the world's, each with all her contexts."""
    count = np.bincount(pair.viewer)
    known = np.flatnonzero(count)
    first = np.searchsorted(pair.viewer[order := np.argsort(pair.viewer, kind="stable")], np.arange(len(count)))
    drawn_viewers = known[rng.integers(0, len(known), viewers)]
    many = count[drawn_viewers]
    viewer = np.repeat(np.arange(viewers), many)
    within = np.arange(len(viewer)) - np.repeat(np.cumsum(many) - many, many)
    context = order[np.repeat(first[drawn_viewers], many) + within]
    n = pair.size[context] - 1
    drawn = rng.random(len(context)) < pair.epsilon
    rank = (rng.random(len(context)) * n).astype(np.int64)
    choice = np.where(drawn, 1 + rank, 0)
    rewards = _rewards(pair, rng, context, choice, mood=rng.choice((-1.0, 1.0), viewers)[viewer])
    by_merit, shown = np.zeros_like(pair.pick), pair.features[context, choice]
    incumbent = pair.odds(by_merit, choice, context)
    support = Support(n + 1, drawn, np.ones(len(context)), np.ones(len(context)), (rank + 0.5) / n)

    def expect(model: RewardModel, rows: Ints) -> tuple[Floats, Floats]:
        q = model(pair.features)
        return pair.expected(pair.pick, q)[context[rows]], pair.expected(by_merit, q)[context[rows]]

    places = {
        name: LoggedPlaces(
            viewer, np.arange(len(context)), reward, incumbent, pair.odds(pair.pick, choice, context), incumbent, support,
            cross_fitted(shown, reward, viewer=viewer, expect=expect) if predicted else None,
        )
        for name, reward in rewards.items()
    }  # fmt: skip
    return Log(places, support, pair.epsilon)


def _rewards(pair: Pair, rng: np.random.Generator, context: Ints, choice: Ints, *, mood: Floats) -> dict[str, Floats]:
    """Clicks, and of the clicks the completions; moods leave every probability's mean over viewers what it is."""
    click, completion = (pair.reward[name][context, choice] for name in REWARDS)
    swing = np.minimum(MOOD, (1.0 - click) / np.maximum(click, 1e-9))
    clicked = rng.random(len(context)) < click * (1.0 + mood * swing)
    completed = clicked & (rng.random(len(context)) * click < completion)
    return {"click": clicked.astype(np.float64), "completion": completed.astype(np.float64)}


def _all_one(log: Log, rng: np.random.Generator) -> Floats:
    return np.ones(len(log.support.drawn))


def _halved(log: Log, rng: np.random.Generator) -> Floats:
    return log.places["click"].propensity / 2


def _shuffled(log: Log, rng: np.random.Generator) -> Floats:
    return rng.permutation(log.places["click"].propensity)


def _swapped(log: Log, rng: np.random.Generator) -> Floats:
    """As if drawn with probability 1 - epsilon."""
    each = (1.0 - log.epsilon) / (log.support.choices - 1)
    return np.where(log.support.drawn, each, log.epsilon)


FAULTS: dict[str, Callable[[Log, np.random.Generator], Floats]] = {
    "all_one": _all_one, "halved": _halved, "shuffled": _shuffled, "swapped": _swapped,
}  # fmt: skip


def broken(log: Log, fault: str, rng: np.random.Generator) -> dict[str, LoggedPlaces]:
    """The log with wrong propensities, which are also what the incumbent is believed to do: it cannot be caught by itself."""
    wrong = FAULTS[fault](log, rng)
    return {
        name: replace(places, propensity=wrong, incumbent=np.minimum(wrong, 1.0)) for name, places in log.places.items()
    }
