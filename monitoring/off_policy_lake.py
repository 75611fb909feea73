"""From the offline tables to a verdict on a release in shadow: what it would have shown, and what viewers did with what was.

    phase = ShadowPhase(id="demo-4-20261101T180000", release="demo-4", since=..., until=...)
    record = evaluate(lake, phase)                            # record.verdict.outcome, record.verdict.texts
    evaluate(lake, phase, versions=record.versions) == record # as long as those versions are kept

Rewards are the labels of the samples (features/labels.py), each within its own observation window: whoever asks gives an
`until` that lies `WINDOW_S` before the newest of what is stored. No samples are needed, so nothing waits for a build.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pyarrow.compute as pc
from msgspec import Struct

from events.clock import utc
from events.schema import Explored, Shadowed
from events.topics import ENGAGEMENT, IMPRESSION, IMPRESSIONS, TOPICS
from features.labels import EFFECTIVE_WATCH_S, OBJECTIVES, Objective
from features.offline_tables import PinnedTable, days, distinct, need_table, open_table
from monitoring.errors import BadPlaces
from monitoring.off_policy_gate import DEFAULT, OffPolicyConfig, OffPolicyReason, OffPolicyVerdict, judge, undecided
from monitoring.off_policy_log import Flags, Floats, LoggedPlaces, Predicted, Support

REWARDS: Sequence[Objective] = tuple(one for one in OBJECTIVES if one.name in ("click", "completion"))
WINDOW_S = max(one.observe_s for one in REWARDS)
Rows = pd.DataFrame
_DICE = msgspec.json.Decoder(Explored)
_SCORES = msgspec.json.Decoder(dict[str, float])
_COLUMNS = (
    "event_id", "kafka_partition", "request_id", "item_id", "user_id", "event_at", "position", "propensity", "explored",
    "scores",
)  # fmt: skip
_ACTS = ("type", "request_id", "item_id", "room_id", "event_at", "watched_s")


class ShadowPhase(Struct, frozen=True, kw_only=True):
    """Whose choices are judged, and over which part of the log; times are epoch seconds of event time."""

    id: str  # of the experiment
    release: str  # in shadow
    line: str = ""  # of its own, whose increments count as well; "" where it shares its line with what answers
    arm: str = "stable"  # whose impressions count
    since: float
    until: float  # not included

    def judges(self, release: str) -> bool:
        """Whether what that release chose is what is asked for."""
        return release == self.release or (self.line != "" and release.rpartition("-")[0] == self.line)


class PlacesRead(Struct, frozen=True, kw_only=True):
    """What was in the log, in places."""

    explored: int = 0  # with their dice
    scored: int = 0  # of those, with the choice of the release in shadow
    without_dice: int = 0  # with odds but no dice: an older proxy logged them
    laid_anew: int = 0  # without odds


class OffPolicyRecord(Struct, frozen=True, kw_only=True):
    """One evaluation, whole: what was asked, of which versions of the tables, with which dials, and the answer."""

    phase: ShadowPhase
    versions: dict[str, int]
    read: PlacesRead
    config: OffPolicyConfig
    verdict: OffPolicyVerdict


def evaluate(
    lake: Path, phase: ShadowPhase, *, config: OffPolicyConfig = DEFAULT, versions: Mapping[str, int] | None = None
) -> OffPolicyRecord:
    """The verdict on a release in shadow from the tables, as they are or as they were at `versions`.

    Without explored places, dice or choices it is undecided and says which. NoTable where impressions have no engagement
    beside them, VersionGone for versions that are no longer kept, BadPlaces for dice that cannot be read.
    """
    at = versions or {}
    seen = open_table(lake, TOPICS[IMPRESSIONS].table, version=at.get("impressions"))
    if seen is None:
        said = undecided(OffPolicyReason.NO_DATA, "there are no impressions yet")
        return OffPolicyRecord(phase=phase, versions={}, read=PlacesRead(), config=config, verdict=said)
    found = _find(seen, phase)
    if not found.read.scored:
        used, verdict = {"impressions": seen.version}, _nothing(found.read, phase)
    else:
        done = _engagement(lake, at.get("engagement"))
        used = {"impressions": seen.version, "engagement": done.version}
        verdict = judge(_logs(found, _acts(done, phase), phase), config=config)
    return OffPolicyRecord(phase=phase, versions=used, read=found.read, config=config, verdict=verdict)


def _engagement(lake: Path, version: int | None) -> PinnedTable:
    name = TOPICS[ENGAGEMENT].table
    return open_table(lake, name, version=version) or need_table(lake, name, made_by="the collector")


def _nothing(read: PlacesRead, phase: ShadowPhase) -> OffPolicyVerdict:
    """Why there is no place to judge by."""
    if read.explored:
        text = f"{phase.release} chose at none of {read.explored} explored places; see livefeed_shadow_pages of the proxies"
        return undecided(OffPolicyReason.NO_DATA, text)
    if read.without_dice:
        text = f"{read.without_dice} impressions have odds but not the dice of their place: their proxies are too old"
        return undecided(OffPolicyReason.SUPPORT_UNKNOWN, text)
    return undecided(OffPolicyReason.NO_DATA, "no explored place was logged in the shadow phase")


def logged_places(
    seen: PinnedTable, done: PinnedTable, phase: ShadowPhase
) -> tuple[dict[str, LoggedPlaces], PlacesRead]:  # fmt: skip
    """The explored places of a phase at which its release has chosen, by reward; and what else there was.

    Places that were laid out anew have no dice. They are added, with no odds, in the proportion in which the others were
    scored, so that their share is what it is in the whole log.
    """
    found = _find(seen, phase)
    return _logs(found, _acts(done, phase), phase), found.read


class _Found(NamedTuple):
    """Places to judge by: impressions, and the dice of each (None: laid anew)."""

    rows: Rows
    dice: list[Explored | None]
    read: PlacesRead


def _find(seen: PinnedTable, phase: ShadowPhase) -> _Found:
    rows = _impressions(seen, phase)
    told = [_dice(text) if isinstance(text, str) else None for text in rows["explored"]]
    known = rows["propensity"].notna().to_numpy()
    explored = np.array([one is not None for one in told], bool)
    scored = np.array([_shadow(one, phase) is not None for one in told], bool)
    read = PlacesRead(
        explored=int(explored.sum()), scored=int(scored.sum()), without_dice=int((known & ~explored).sum()),
        laid_anew=int((~known & ~explored).sum()),
    )  # fmt: skip
    anew = np.flatnonzero(~known & ~explored)
    anew = anew[: round(len(anew) * read.scored / max(read.explored, 1))]
    places = np.concatenate([np.flatnonzero(scored), anew])
    return _Found(rows.iloc[places].reset_index(drop=True), [told[place] for place in places.tolist()], read)


def _impressions(seen: PinnedTable, phase: ShadowPhase) -> Rows:
    """What was shown against odds in the phase, each item of a request once, by its earliest impression."""
    inside = (pc.field("event_at") >= utc(phase.since)) & (pc.field("event_at") < utc(phase.until))
    odds = pc.field("propensity").is_null() | (pc.field("propensity") < 1.0)
    ours = (pc.field("type") == IMPRESSION) & (pc.field("arm") == phase.arm) & (pc.field("release") != "none")
    rows: Rows = distinct(seen.read(_dates(phase.since, phase.until), _COLUMNS, where=inside & odds & ours)).to_pandas()
    return rows.sort_values(["event_at", "position", "event_id"]).drop_duplicates(["request_id", "item_id"])


def _acts(done: PinnedTable, phase: ShadowPhase) -> Rows:
    """What viewers did that may be a reward: type, request, item and time."""
    end = phase.until + WINDOW_S
    kinds = sorted({kind for one in REWARDS for kind in one.events})
    inside = (pc.field("event_at") >= utc(phase.since)) & (pc.field("event_at") <= utc(end))
    wanted = inside & pc.field("type").isin(kinds) & pc.field("request_id").is_valid()
    rows: Rows = done.read(_dates(phase.since, end), _ACTS, where=wanted).to_pandas()
    rows["item_id"] = rows["item_id"].fillna(rows["room_id"])
    left_early = (rows["type"] == "room_left") & ~(rows["watched_s"] >= EFFECTIVE_WATCH_S)
    return rows[~left_early][["type", "request_id", "item_id", "event_at"]]


def _dates(since: float, until: float) -> list[date]:
    return days(utc(since).date(), utc(max(since, until)).date())


def _dice(text: str) -> Explored:
    try:
        return _DICE.decode(text)
    except msgspec.MsgspecError as error:
        raise BadPlaces(f"the dice {text[:80]} of an impression cannot be read: {error}") from None


def _shadow(one: Explored | None, phase: ShadowPhase) -> Shadowed | None:
    """What the release in question chose; None where it did not, or another did."""
    return one.shadow if one is not None and one.shadow is not None and phase.judges(one.shadow.release) else None


def _logs(found: _Found, acts: Rows, phase: ShadowPhase) -> dict[str, LoggedPlaces]:
    """The columns; of rows without dice all but viewer and request are placeholders beside a propensity that is NaN."""
    rows, dice, _ = found
    shadows = [_shadow(one, phase) for one in dice]
    there = np.array([one is not None for one in dice], bool)
    epsilon = np.array([one.epsilon if one else 0.0 for one in dice])
    size = np.array([one.pool if one else 0 for one in dice], np.int64)
    rank = np.array([-1 if one is None or one.rank is None else one.rank for one in dice], np.int64)
    chosen = np.array([one is not None and one.chose_shown for one in shadows], bool)
    drawn, each = rank >= 0, epsilon / np.maximum(size, 1)
    support = Support(
        choices=size + 1, drawn=drawn, covered=np.ones(len(rows)), incumbent_covered=np.ones(len(rows)),
        rank=(np.maximum(rank, 0) + 0.5) / np.maximum(size, 1),
    )  # fmt: skip
    scores = [_SCORES.decode(text) if isinstance(text, str) else {} for text in rows["scores"]]
    return {
        one.name: LoggedPlaces(
            viewer=rows["user_id"].to_numpy(), request=rows["request_id"].to_numpy(), reward=_reward(rows, acts, one),
            propensity=np.where(there, rows["propensity"].to_numpy(np.float64), np.nan),
            target=(1.0 - epsilon) * chosen * there + each * drawn,
            incumbent=(1.0 - epsilon) * ~drawn * there + each * drawn,
            support=support, predicted=_predicted(scores, shadows, one.name, there),
        )
        for one in REWARDS
    }  # fmt: skip


def _reward(rows: Rows, acts: Rows, objective: Objective) -> Floats:
    """1 where the objective's event came within its observation window, [rows]."""
    mine = acts[acts["type"].isin(objective.events)].rename(columns={"event_at": "act_at"})
    shown = rows[["request_id", "item_id", "event_at"]].assign(row=np.arange(len(rows)))
    met = shown.merge(mine, on=["request_id", "item_id"])
    gap = (met["act_at"] - met["event_at"]).dt.total_seconds()
    out = np.zeros(len(rows))
    out[met["row"][(gap >= 0) & (gap <= objective.observe_s)].to_numpy(np.int64)] = 1.0
    return out


def _predicted(
    scores: Sequence[Mapping[str, float]], shadows: Sequence[Shadowed | None], reward: str, there: Flags
) -> Predicted | None:
    """The answering release's expectations: made before the reward was, so no place's own has taught them.

    None where a place's do not name the reward: then no reward is predicted at all.
    """
    columns: list[list[Any]] = [
        [one.get(reward) for one in scores],
        [one.expected_target.get(reward) if one else None for one in shadows],
        [one.expected_incumbent.get(reward) if one else None for one in shadows],
    ]
    found = [np.where(there, np.array(column, np.float64), 0.0) for column in columns]
    return Predicted(*found) if all(np.isfinite(one).all() for one in found) else None
