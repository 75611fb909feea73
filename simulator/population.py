"""Who lives in the world: viewers with tastes, media creators, and hosts with habits. All [P]: see docs/world.md."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.config import WorldConfig
from simulator.streams import stream, uniform

Vector = npt.NDArray[np.float64]
CATEGORIES = (
    "music", "gaming", "comedy", "talk", "dance", "sports", "cooking", "travel", "beauty", "education", "news", "art",
)  # fmt: skip
CATEGORY_SHARE: Vector = np.array([1 / (rank + 3) for rank in range(len(CATEGORIES))])
CATEGORY_SHARE /= CATEGORY_SHARE.sum()
# language -> (share, region, hours ahead of UTC)
LANGUAGES = {
    "en": (0.46, "na", -5), "es": (0.20, "latam", -4), "pt": (0.12, "latam", -3), "ko": (0.12, "asia", 9),
    "de": (0.10, "eu", 1),
}  # fmt: skip
STYLES = 6  # hidden dimensions of taste that no attribute of an item says
DAY = 86_400.0
AGE_BANDS = ("18_24", "25_34", "35_44", "45_54", "55_64")
STATUSES = ("chat", "song", "dance", "game", "pk")  # what a host does now
JOIN_WITHIN_DAYS = 14
GENDERS = ("female", "male")
CONTENT_TYPES = ("VIDEO", "AUDIO", "LIVE")


@dataclass(frozen=True)
class Viewer:
    """A viewer's truth: interest by category, hidden style, liking of content types, how active and how generous."""

    index: int
    user_id: str
    language: str
    tells_language: bool  # whether the profile event carries it
    interest: Vector  # [categories]; favourites at 1.4 to 2.4, the rest about -0.5
    style: Vector  # [STYLES], about unit length
    type_taste: dict[str, float]  # content type -> added utility
    activity: float  # sessions relative to the average viewer
    generosity: float  # relative rate of gifts
    favourites: tuple[str, ...]  # host ids she has known since before the world began
    age_band: str
    gender: str
    joins_at: float = -math.inf  # epoch seconds; before it she does not come
    status_taste: dict[str, float] = field(default_factory=dict)  # what the host does -> added utility


@dataclass(frozen=True)
class Creator:
    """Who makes things: a media creator, or (with habits) a live host."""

    creator_id: str
    language: str
    category: int
    second: int
    style: Vector
    quality: float  # about N(0, 0.5)


@dataclass(frozen=True)
class Host(Creator):
    """A live host; goes live around the same hours of the day."""

    index: int
    slots: tuple[float, ...]  # local hours of day
    faithful: float  # probability that a slot of a day is used
    from_at: float = -math.inf  # epoch seconds of birth
    until_at: float = math.inf  # after which she never goes live


def local_hour(at: float, language: str) -> float:
    """Hour of day, 0 to 24, where that language's people live."""
    return (at / 3_600.0 + LANGUAGES[language][2]) % 24.0


def _language(rng: np.random.Generator) -> str:
    return str(rng.choice(list(LANGUAGES), p=[share for share, _, _ in LANGUAGES.values()]))


def _style(rng: np.random.Generator) -> Vector:
    style: Vector = rng.normal(size=STYLES) / np.sqrt(STYLES)
    return style


def _creator_fields(rng: np.random.Generator, creator_id: str) -> dict[str, Any]:
    category, second = (int(one) for one in rng.choice(len(CATEGORIES), size=2, replace=False, p=CATEGORY_SHARE))
    return {
        "creator_id": creator_id, "language": _language(rng), "category": category, "second": second,
        "style": _style(rng), "quality": float(rng.normal(0.0, 0.5)),
    }  # fmt: skip


def make_creators(config: WorldConfig) -> list[Creator]:
    """The media creators."""
    rng = stream(config.seed, "creators")
    return [Creator(**_creator_fields(rng, f"creator-{number:04d}")) for number in range(config.creators)]


def make_hosts(config: WorldConfig) -> list[Host]:
    """The live hosts, each with one or two habitual hours, most of them in the evening."""
    rng, start = stream(config.seed, "hosts"), config.start_at.timestamp()
    return [_host(config, rng, index, from_at=-math.inf, counted_from=start) for index in range(config.hosts)]


def hosts_born_on(config: WorldConfig, day: int, *, first_index: int) -> list[Host]:
    """The hosts who go live for the first time on UTC day `day` (days since 1970), numbered from `first_index`."""
    rng = stream(config.seed, "host births", day)
    count = int(rng.poisson(config.change.births_per_day * config.hosts))
    out = []
    for index in range(first_index, first_index + count):
        born = day * DAY + float(rng.uniform(0.0, DAY / 2))
        out.append(_host(config, stream(config.seed, "born host", index), index, from_at=born, counted_from=born))
    return out


def _host(config: WorldConfig, rng: np.random.Generator, index: int, *, from_at: float, counted_from: float) -> Host:
    fields = _creator_fields(rng, f"host-{index:04d}")
    evening, other = float(rng.normal(20.0, 2.5)) % 24.0, float(rng.uniform(8.0, 18.0))
    slots = (evening,) if rng.random() < 0.5 else (other, evening)
    rate, luck = config.change.retirement_per_day, uniform(config.seed, "retirement", index)
    until_at = counted_from - DAY * math.log1p(-luck) / rate if rate > 0 else math.inf
    return Host(
        **fields, index=index, slots=slots, faithful=float(rng.uniform(0.6, 0.95)), from_at=from_at, until_at=until_at
    )  # fmt: skip


def _interest(rng: np.random.Generator) -> Vector:
    out = rng.normal(-0.5, 0.25, size=len(CATEGORIES))
    favourites = rng.choice(len(CATEGORIES), size=int(rng.integers(2, 4)), replace=False, p=CATEGORY_SHARE)
    out[favourites] = rng.uniform(1.4, 2.4, size=len(favourites))
    return out


def _favourite_hosts(rng: np.random.Generator, interest: Vector, language: str, hosts: list[Host]) -> tuple[str, ...]:
    """Up to three hosts she would like, in her language."""
    known = sorted(
        (host for host in hosts if host.language == language), key=lambda host: (-interest[host.category], host.index)
    )
    return tuple(host.creator_id for host in known[: int(rng.integers(0, 4))])


def _joins_at(config: WorldConfig, index: int, start: float) -> float:
    if uniform(config.seed, "joins later", index) >= config.change.late_joiners:
        return -math.inf
    return start + round(JOIN_WITHIN_DAYS * DAY * uniform(config.seed, "joins when", index), 3)


def _status_taste(config: WorldConfig, index: int) -> dict[str, float]:
    if config.change.status_taste == 0:
        return {}
    drawn = stream(config.seed, "status taste", index).normal(0.0, config.change.status_taste, size=len(STATUSES))
    return dict(zip(STATUSES, drawn.tolist(), strict=True))


def make_viewers(config: WorldConfig, hosts: list[Host]) -> list[Viewer]:
    """The viewers; activity is heavy-tailed (gamma, shape 1) around 1."""
    rng, start = stream(config.seed, "viewers"), config.start_at.timestamp()
    out = []
    for index in range(config.viewers):
        language, interest = _language(rng), _interest(rng)
        out.append(
            Viewer(
                index=index, user_id=f"viewer-{index:05d}", language=language, tells_language=bool(rng.random() < 0.9),
                interest=interest, style=_style(rng),
                type_taste={kind: float(rng.normal(0.0, 0.5)) for kind in CONTENT_TYPES},
                activity=float(rng.gamma(1.0)), generosity=float(rng.lognormal(-0.5, 1.0)),
                favourites=_favourite_hosts(rng, interest, language, hosts), age_band=str(rng.choice(AGE_BANDS)),
                gender=str(rng.choice(GENDERS)), joins_at=_joins_at(config, index, start),
                status_taste=_status_taste(config, index),
            )
        )  # fmt: skip
    return out
