"""The KuaiRand-27K like/hate slice as events: short-video feedback with real impressions' times and real plays.

Every row of the slice carries a like or a hate, so the rows are selected: no CTR, calibration or exposure claim can be
made from it. docs/guides/datasets.md states each mapping.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from events import schema as s
from events.datasets.order import EPOCH, PUBLISHED_BEFORE, STEP, chronological
from events.datasets.rows import Row, read_rows
from events.errors import BadDataset

FILE = "processed_standard_kcore_15.tsv"
HEADER = (
    "user_id", "video_id", "date", "hourmin", "time_ms", "is_click", "is_follow", "is_comment", "is_forward",
    "long_view", "play_time_ms", "duration_ms", "comment_stay_time", "is_profile_enter", "label", "timestamp",
)  # fmt: skip
CATEGORY = "short_video"  # the slice has no categories
COMPLETED_OVER, PAUSED_UNDER = 0.9, 0.3  # shares of the duration, the spec's
_LONGEST_MS = 2**40


class Shown(NamedTuple):
    """One row: who saw which video when, and what followed. `duration_ms` 0 means unknown."""

    at_ms: int
    user: str
    video: str
    clicked: bool
    followed: bool
    commented: bool
    forwarded: bool
    liked: bool
    play_ms: int
    duration_ms: int

    @property
    def key(self) -> str:
        """Names the row: the same viewer, video and millisecond is the same impression."""
        return f"{self.user}-{self.video}-{self.at_ms}"


def read(folder: Path) -> Iterator[s.Event]:
    """Videos a day before the first row, then every distinct row at its own time; BadDataset."""
    rows = {one.key: one for one in reversed(read_rows(folder / FILE, HEADER, _shown))}  # the first of equal rows stays
    if not rows:
        raise BadDataset(f"{folder / FILE} has no rows")
    return _events(sorted(rows.values()))


def _events(rows: list[Shown]) -> Iterator[s.Event]:
    before = EPOCH + timedelta(milliseconds=rows[0].at_ms) - PUBLISHED_BEFORE
    durations: dict[str, int] = {}
    for row in rows:
        durations[row.video] = max(row.duration_ms, durations.get(row.video, 0))
    for video, duration_ms in durations.items():
        yield s.MediaPublished(
            event_id=f"kr-v{video}:published", event_at=before, item_id=f"kr-v{video}", creator_id=_creator(video),
            content_type="VIDEO", category=CATEGORY, duration_s=duration_ms / 1000 if duration_ms else None,
        )  # fmt: skip
    yield from chronological(shown(row) for row in rows)


def shown(row: Shown) -> list[s.Event]:
    """The impression and, a second apart, what the viewer did; all under one request id."""
    request = f"kr-r{row.key}"
    user, item, creator = f"kr-u{row.user}", f"kr-v{row.video}", _creator(row.video)
    at = EPOCH + timedelta(milliseconds=row.at_ms)
    out: list[s.Event] = [
        s.Impression(
            event_id=f"{request}:0", event_at=at, request_id=request, user_id=user, item_id=item,
            content_type=s.ContentType.VIDEO, creator_id=creator, position=0, source="replay",
        )
    ]  # fmt: skip
    for name, kind in _acts(row):
        at += STEP
        out.append(
            kind(
                event_id=f"{request}:{name}",
                event_at=at,
                user_id=user,
                item_id=item,
                creator_id=creator,
                request_id=request,
            )
        )
    if row.followed:
        out.append(
            s.SubscriptionToCreator(
                event_id=f"{request}:followed", event_at=at + STEP, user_id=user, creator_id=creator, item_id=item,
                request_id=request,
            )
        )  # fmt: skip
    return out


def _acts(row: Shown) -> Iterator[tuple[str, type[s.MediaEvent]]]:
    """Media events of a row, in order. Played shares count only for a clicked row whose duration is known."""
    share = row.play_ms / row.duration_ms if row.clicked and row.duration_ms else None
    if row.clicked:
        yield "started", s.MediaStarted
    if share is not None and share > COMPLETED_OVER:
        yield "completed", s.MediaCompleted
    if share is not None and share < PAUSED_UNDER:
        yield "paused", s.MediaPausedEarly
    yield ("liked", s.MediaLiked) if row.liked else ("disliked", s.MediaDisliked)
    if row.commented or row.forwarded:
        yield "shared", s.MediaShared


def _creator(video: str) -> str:
    """The slice has no authors; a follow must name somebody, so each video stands for its own unknown author."""
    return f"kr-author-of-{video}"


def _shown(row: Row) -> Shown:
    clicked, followed, commented, forwarded, liked = (
        row.integer(name, low=0, high=1) == 1 for name in ("is_click", "is_follow", "is_comment", "is_forward", "label")
    )
    at_ms, play_ms, duration_ms = (
        row.integer(name, low=0, high=_LONGEST_MS * (2 if name == "time_ms" else 1))
        for name in ("time_ms", "play_time_ms", "duration_ms")
    )
    user, video = row.word("user_id"), row.word("video_id")
    return Shown(at_ms, user, video, clicked, followed, commented, forwarded, liked, play_ms, duration_ms)
