"""What the freshness benchmark calls visible: nothing before a feed knows of it, nothing lost, ends to their last sight."""

from pathlib import Path

import pytest

from benchmarks.freshness import CLOCK, Probes
from events import schema as s
from events.log import MemoryLog, MemoryWriter
from events.topics import decode
from serving.wiring import Proxy
from tests.serving.small_world import SmallWorld


@pytest.fixture
def world(tmp_path: Path) -> SmallWorld:
    return SmallWorld(tmp_path).fill()


@pytest.fixture
def proxy(world: SmallWorld) -> Proxy:
    world.publish("probed-0", creator="prober")
    world.clock.set(CLOCK.now())  # the probes' events are of now
    return world.proxy(follows_requests=False)


def arrive(world: SmallWorld, log: MemoryLog) -> None:
    """Everything sent so far reaches the store."""
    for lane in log.records.values():
        for record in lane:
            event = decode(record.topic, record.value)
            world.tell(event)
            if isinstance(event, s.RoomOpened | s.RoomClosed):
                lease_s = 90.0 if isinstance(event, s.RoomOpened) else 0.0
                world.store.set_room(event.room_id, lease_until=event.event_at.timestamp() + lease_s)
        lane.clear()


def test_a_start_is_visible_to_its_viewer_at_once_and_in_the_table_at_the_next_refresh(
    world: SmallWorld, proxy: Proxy
) -> None:
    log = MemoryLog()
    probes = Probes(MemoryWriter(log), proxy.parts)
    probes.start(0)
    probes.look()
    assert (len(probes.viewers.took), len(probes.items.took)) == (0, 0)
    arrive(world, log)
    probes.look()
    assert (len(probes.viewers.took), len(probes.items.took)) == (1, 0)
    proxy.parts.background.tick()
    probes.look()
    assert (len(probes.viewers.took), len(probes.items.took)) == (1, 1)


def test_a_room_counts_as_served_until_the_last_look_that_found_it(
    world: SmallWorld, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = [1000.0]
    monkeypatch.setattr("benchmarks.freshness.time.monotonic", lambda: at[0])
    log = MemoryLog()
    probes = Probes(MemoryWriter(log), proxy.parts)
    probes.open(7)
    arrive(world, log)
    proxy.parts.background.tick()
    at[0] += 0.25
    probes.look()
    assert probes.opened.took == [0.25]
    probes.close(7)
    at[0] += 0.5
    probes.look()  # the close has not arrived yet: a feed could still hold the room
    arrive(world, log)
    proxy.parts.background.tick()
    at[0] += 2
    probes.look()
    assert probes.ends() == [0.5]
