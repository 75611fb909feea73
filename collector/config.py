"""The collector's dials."""

from dataclasses import dataclass

from events.topics import ENGAGEMENT, IMPRESSIONS, LIFECYCLE, MEDIA, PROFILES

COLLECTED = (MEDIA, LIFECYCLE, PROFILES, ENGAGEMENT, IMPRESSIONS)
# Only these can be late. The others hold by event time (the newest wins whenever it comes), so age does not spoil them.
TIMED_TOPICS = frozenset({ENGAGEMENT, IMPRESSIONS})


@dataclass(frozen=True)
class CollectorConfig:
    """How often and how much; event-time seconds where it says so, wall seconds elsewhere."""

    lateness_s: float = 3600.0  # event time: older than its partition's watermark by more is late
    ahead_s: float | None = None  # an event time further ahead of the clock is a broken clock: a dead letter; None: any
    flush_every_s: float = 0.2  # to the online store
    catch_up_flush_s: float = (
        2.0  # to the online store while polls come back full: records are written once for many events
    )
    commit_every_s: float = 10.0  # to the offline tables
    commit_rows: int = 100_000  # or as soon as that many rows wait
    poll_s: float = 0.05
    poll_limit: int = 4000
    cached_records: int = 60_000  # online records kept in memory, up to some 20 kB each as Python objects
    trending_event_s: float = 900.0  # event time between two trending lists
    trending_every_s: float = 10.0  # or that many wall seconds, whichever comes first
    scored_at_once: int = 400  # items scored for the lists a flush: some 10 ms
    learned_at_once: int = 100  # items read for lists and packed numbers a flush: some 9 ms of its 200
    compact_every: int = 100  # commits between two compactions of the offline tables; commits slow down with live files
    retry_s: float = 0.2  # first wait when a store does not answer; doubles up to
    retry_max_s: float = 5.0
