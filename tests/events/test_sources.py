"""Every source of events (MovieLens, KuaiRand, simulated worlds) feeds the same topics and keeps the same contracts."""

import functools
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from events import datasets
from events import schema as s
from events.contract import contract
from events.topics import TOPICS, decode, encode, key_of, kind_of, topic_of
from simulator import RandomFeed, World
from simulator.worlds import named

OF_A_KIND = 300  # events of each type that are judged
FOLDERS = {"movielens": "ml-100k", "kuairand": "kuairand-27k-likehate"}
WORLDS = ("demo", "live-first", "media-first", "rough-road")


class Kept:
    """A writer that keeps proper events."""

    def __init__(self) -> None:
        self.events: list[s.Event] = []

    def send(self, event: s.Event) -> None:
        self.events.append(event)

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: object = ()) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def of_world(name: str) -> list[s.Event]:
    small = replace(named(name), viewers=60, hosts=40, creators=20, items=80, sessions_per_day=8.0, duplicate_share=0.0)
    world, kept = World(small), Kept()
    world.advance(36.0, kept, RandomFeed(world.on, seed=1, writer=kept))
    return kept.events


@functools.cache
def events_of(source: str, shared: Path) -> dict[str, list[s.Event]]:
    """The events of a source by type."""
    read: Callable[[], list[s.Event]] = functools.partial(of_world, source)
    if source in FOLDERS:
        read = functools.partial(lambda: list(datasets.read(source, shared / FOLDERS[source])))
    out: dict[str, list[s.Event]] = defaultdict(list)
    for event in read():
        out[kind_of(event)].append(event)
    return out


@functools.cache
def judge(topic: str) -> Draft202012Validator:
    return Draft202012Validator(contract(topic))


@pytest.mark.parametrize("source", [*FOLDERS, *WORLDS])
def test_events_of_every_source_fit_the_contract_of_their_topic(source: str, shared_data: Path) -> None:
    for kind, events in events_of(source, shared_data).items():
        for event in events[:OF_A_KIND]:
            errors = [error.message for error in judge(topic_of(event).name).iter_errors(json.loads(encode(event)))]
            assert errors == [], kind


@pytest.mark.parametrize("source", [*FOLDERS, *WORLDS])
def test_events_of_every_source_are_read_back_as_they_were_under_their_key(source: str, shared_data: Path) -> None:
    for events in events_of(source, shared_data).values():
        for event in events[:OF_A_KIND]:
            assert decode(topic_of(event).name, encode(event)) == event
            assert key_of(event)


@pytest.mark.parametrize("source", [*FOLDERS, *WORLDS])
def test_ids_are_unique_and_impressions_lead_to_what_follows(source: str, shared_data: Path) -> None:
    found = events_of(source, shared_data)
    ids = [event.event_id for events in found.values() for event in events]
    assert len(ids) == len(set(ids))
    shown = {event.request_id for event in found["impression"] if isinstance(event, s.Impression)}
    for kind in ("media_started", "room_entered", "feed_clicked"):
        named_requests = {getattr(event, "request_id", None) for event in found.get(kind, [])} - {None}
        assert named_requests <= shown


def test_a_world_speaks_of_everything_a_topic_can_carry(shared_data: Path) -> None:
    told = {kind for name in WORLDS for kind in events_of(name, shared_data)}
    missing = {str(kind.__struct_config__.tag) for topic in TOPICS.values() for kind in topic.types} - told
    # by moderation and by request: not played
    assert missing == {"media_hidden", "profile_erased"}
