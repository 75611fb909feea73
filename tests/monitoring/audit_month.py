"""Months for the audit's tests: viewers with set click rates, every one of them back each day at the same hour."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from monitoring.audit import AuditPlan
from monitoring.audit_record import AuditConfig
from monitoring.audit_rows import AuditRows, Reranked, table_of

DAY = 86_400.0
UNTIL = 31 * DAY
DIALS = AuditConfig(min_viewers=150, min_events=50, traffic_viewers=500)
PLAN = AuditPlan(line="new", month="2027-01", candidate=("new-2",), incumbent=("old-1",), config=DIALS)
ITEMS, EACH = 150, 3  # every creator has three items; those of five creators in a row fill every place alike
PLACES, DAYS = 5, 4  # of a request; requests a viewer, one a day
SHARES = {"language": {"en": 0.5, "de": 0.3, "tr": 0.2}, "age_band": {"18-24": 0.5, "25-34": 0.5},
          "gender": {"female": 0.5, "male": 0.4, None: 0.1}}  # fmt: skip


def month(
    viewers: int = 4_000, *, seed: int = 3, candidate: float = 0.5, rate: float = 0.3,
    unfair: Mapping[str, float] | None = None, hidden: float = 1.0, explored: bool = True,
) -> AuditRows:  # fmt: skip
    """Half of the viewers meet the candidate. `unfair` scales its click rate by a word of the profile; `hidden` is how much
    as often it shows the creators who speak tr as the incumbent does. The last place of a request is drawn for at random.
    """
    rng = np.random.default_rng(seed)
    people = {name: rng.permutation(np.resize(_laid_out(words), viewers)) for name, words in SHARES.items()}
    met = np.arange(viewers) < candidate * viewers
    factor = np.ones(viewers)
    for word, scale in (unfair or {}).items():
        factor *= np.where(np.any([one == word for one in people.values()], axis=0) & met, scale, 1.0)
    who = np.repeat(np.arange(viewers), DAYS * PLACES)
    day, place = np.tile(np.repeat(np.arange(DAYS), PLACES), viewers), np.tile(np.arange(PLACES), viewers * DAYS)
    drawn = place == PLACES - 1
    item = _items(rng, met[who], drawn, hidden)
    clicked = (rng.random(len(who)) < rate * factor[who]).astype(int)
    impressions = {
        "request_id": [f"q{v}-{d}" for v, d in zip(who, day, strict=True)], "user_id": [f"u{v}" for v in who],
        "item_id": [f"i{one}" for one in item], "creator_id": [f"c{one // EACH}" for one in item],
        "position": place.astype(float), "event_at": day * DAY + place, "release": np.where(met, "new-2", "old-1")[who],
        "predicted": np.full(len(who), rate), "clicked": clicked, "started": clicked,
        "propensity": np.where(drawn & explored, 1 / (ITEMS / PLACES), 1.0),
        "completed": clicked * (rng.random(len(who)) < 0.6),
    }  # fmt: skip
    return AuditRows(
        UNTIL, table_of("impressions", impressions),
        table_of("viewers", {"user_id": [f"u{v}" for v in range(viewers)], **people}), creators(), items(),
        table_of("history", {"user_id": [f"u{v}" for v in range(viewers) for _ in range(6)],
                             "item_id": [f"i{(v + n * 20) % ITEMS}" for v in range(viewers) for n in range(6)]}),
    )  # fmt: skip


def _laid_out(words: Mapping[Any, float]) -> np.ndarray:
    return np.array([word for word, share in words.items() for _ in range(round(10 * share))], dtype=object)


def _items(rng: np.random.Generator, met: np.ndarray, drawn: np.ndarray, hidden: float) -> np.ndarray:
    """Place p shows one of the items p, p + 5, ...: none twice in a request."""
    place = np.tile(np.arange(PLACES), len(met) // PLACES)
    item = place + PLACES * rng.integers(0, ITEMS // PLACES, len(met))
    again = met & ~drawn & (item >= 120) & (rng.random(len(met)) > hidden)
    return np.where(again, place + PLACES * (item // PLACES - 24), item)


def creators() -> pa.Table:
    """The last ten of fifty speak tr, the first five of each 25 are new; followers rise with their number."""
    count = ITEMS // EACH
    language = ["tr" if n >= 40 else "en" for n in range(count)]
    joined = [UNTIL - (30 if n // 5 % 5 == 0 else 400) * DAY for n in range(count)]
    ids = [f"c{n}" for n in range(count)]
    return table_of(
        "creators", {"creator_id": ids, "language": language, "size": np.arange(float(count)), "joined_at": joined}
    )


def items() -> pa.Table:
    """Three items a creator, five categories."""
    owner = np.arange(ITEMS) // EACH
    return table_of("items", {
        "item_id": [f"i{n}" for n in range(ITEMS)], "creator_id": [f"c{n}" for n in owner],
        "category": [f"k{n % 5}" for n in range(ITEMS)], "language": np.where(owner >= 40, "tr", "en"), "listed": [1] * ITEMS,
    })  # fmt: skip


def ranked_again(rows: AuditRows, *, wronged: str = "") -> AuditRows:
    """The month's requests as a candidate would order them: as they were, but worst first for viewers of one language."""
    table = rows.impressions
    language = dict(zip(rows.viewers["user_id"].to_pylist(), rows.viewers["language"].to_pylist(), strict=True))
    place, clicked = table["position"].to_numpy(), table["clicked"].to_numpy()
    unlucky = np.array([language[one] == wronged for one in table["user_id"].to_pylist()])
    # clicked items go to the end of the wronged viewers' pages, as far as a place goes
    rank = np.where(unlucky, np.where(clicked == 1, 20.0 + place, place), place)
    again = table.select(["request_id", "user_id", "item_id", "creator_id", "predicted", "clicked"])
    again = again.append_column("candidate_rank", pa.array(rank, pa.float64()))
    return replace(rows, reranked=Reranked(again.append_column("incumbent_rank", pa.array(place, pa.float64()))))
