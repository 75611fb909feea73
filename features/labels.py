"""Objectives: which events answer an impression with yes, how long each is waited for, and how long it still counts.

The live funnel is click, watch, effective watch, interaction, follow, gift; media has completion, like and share.
`completion` and `like` span both: a room that was watched effectively counts as completed, any live interaction as a like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from features.errors import BadRange

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

MINUTE, DAY = 60.0, 24 * 3_600.0
EFFECTIVE_WATCH_S = 30.0


@dataclass(frozen=True)
class Objective:
    """One label. The windows are event-time seconds from the impression; BadRange unless 0 < observe_s <= attribute_s."""

    name: str
    events: tuple[str, ...]  # types of the events that make the label 1
    observe_s: float  # correction: the negative is emitted when this has passed
    attribute_s: float = DAY  # later positives are not attributed at all

    def __post_init__(self) -> None:
        """Check the windows."""
        if not 0 < self.observe_s <= self.attribute_s:
            raise BadRange(
                f"objective {self.name} observes for {self.observe_s:g} s of an attribution window of "
                f"{self.attribute_s:g} s; the first must be above 0 and not above the second"
            )


# Observation windows: an answer that is decided within seconds (click, watch) or after exactly 30 s of watching needs no
# correction if one waits this long, the others do; follows and gifts come for hours (docs/guides/samples.md has the sources).
OBJECTIVES: tuple[Objective, ...] = (
    Objective("click", ("feed_clicked", "media_started", "room_entered"), 1.5 * MINUTE),
    Objective("watch", ("media_started", "room_entered"), 1.5 * MINUTE),
    # the first heartbeat is sent at 30 s; room_left says as much when the heartbeats were lost, but may be lost itself
    Objective("effective_watch", ("watch_heartbeat", "room_left"), 2 * MINUTE),
    Objective(
        "interaction", ("comment_posted", "room_shared", "media_shared", "media_added_to_playlist"), 15 * MINUTE
    ),
    Objective("follow", ("streamer_followed", "subscription_to_creator"), 15 * MINUTE),
    Objective("gift", ("gift_sent",), 15 * MINUTE),
    Objective("completion", ("media_completed", "watch_heartbeat", "room_left"), 15 * MINUTE),
    Objective(
        "like",
        (
            "media_liked", "media_shared", "media_added_to_playlist", "media_replay", "comment_posted", "gift_sent",
            "streamer_followed", "room_shared", "subscription_to_creator",
        ),
        15 * MINUTE,
    ),
    Objective("share", ("media_shared", "room_shared"), 15 * MINUTE),
)  # fmt: skip
NAMES = tuple(one.name for one in OBJECTIVES)


def labelling_events(rows: DataFrame, objectives: Sequence[Objective] = OBJECTIVES) -> DataFrame:
    """Engagement rows that name a request and label it, each event once: act_id, act_at, late, a 0/1 column an objective."""
    from pyspark.sql import functions as F

    acts = rows.where("request_id is not null").select(
        F.col("event_id").alias("act_id"), "request_id", F.coalesce("item_id", "room_id").alias("item_id"),
        F.col("event_at").alias("act_at"), F.col("event_date").alias("act_date"), "late",
        *(positive(one).alias(one.name) for one in objectives),
    )  # fmt: skip
    return acts.where(" or ".join(f"{one.name} = 1" for one in objectives)).dropDuplicates(["act_id"])


def positive(objective: Objective) -> Column:
    """1 where an event is a positive of the objective, else 0; a room that was left counts from 30 watched seconds on."""
    from pyspark.sql import functions as F

    kind = F.col("type")
    said = kind.isin(*objective.events) & ((kind != "room_left") | (F.col("watched_s") >= EFFECTIVE_WATCH_S))
    return F.coalesce(said, F.lit(False)).cast("byte")
