"""The rooms on air, and what they say: opened, a heartbeat every 30 s, what the host does, closed (unless that is lost)."""

from collections import Counter

import numpy as np

from events import schema as s
from simulator.behaviour import HEARTBEAT_S, Mint
from simulator.births import host_born
from simulator.catalogue import Room, rooms_of_day
from simulator.config import WorldConfig
from simulator.population import DAY, Host, hosts_born_on
from simulator.streams import stream


class Broadcasts:
    """Plans every host's rooms a day ahead and tells them step by step."""

    def __init__(self, config: WorldConfig, hosts: list[Host]) -> None:
        self._config, self.hosts = config, list(hosts)  # those born later are added
        self._rng = stream(config.seed, "lost heartbeats")
        self._free_at = dict.fromkeys((host.creator_id for host in hosts), config.start_at.timestamp())
        self._planned_day = int(config.start_at.timestamp() // DAY) - 1
        self._current: list[Room] = []  # not over at the last step, or still to come
        self.rooms: dict[str, Room] = {}
        self._drifted: dict[int, float] = {}  # host -> how far her quality is from her mean
        self._born: list[Host] = []  # not told yet

    def live(self, at: float) -> list[Room]:
        """Rooms on air at epoch second `at` (not before the last step), by id."""
        self._plan(at)
        return [room for room in self._current if room.from_at <= at < room.until_at]

    def _plan(self, until: float) -> None:
        while self._planned_day < until // DAY:
            self._planned_day += 1
            self._bear()
            for host in self.hosts:
                for room in rooms_of_day(
                    self._config, host, self._planned_day, not_before=self._free_at[host.creator_id],
                    quality=self._drift(host),
                ):  # fmt: skip
                    self.rooms[room.item_id] = room
                    self._current.append(room)
                    self._free_at[host.creator_id] = room.until_at + 1_800.0
            self._current.sort(key=lambda room: room.item_id)

    def _bear(self) -> None:
        if self._config.change.births_per_day > 0:
            born = hosts_born_on(self._config, self._planned_day, first_index=len(self.hosts))
            self.hosts += born
            self._born += born
            self._free_at |= {host.creator_id: host.from_at for host in born}

    def _drift(self, host: Host) -> float:
        """Where the host's quality is on the planned day: an Ornstein-Uhlenbeck process in steps of a day."""
        change = self._config.change
        if change.quality_drift == 0:
            return 0.0
        keeps = float(np.exp(-1.0 / change.quality_days))
        pushed = float(stream(self._config.seed, "quality drift", host.index, self._planned_day).normal())
        self._drifted[host.index] = keeps * self._drifted.get(host.index, 0.0) + (
            np.sqrt(1.0 - keeps**2) * change.quality_drift * pushed
        )
        return self._drifted[host.index]

    def step(self, mint: Mint, start: float, until: float, lost: Counter[str]) -> list[s.Event]:
        """What the rooms say in [start, until), and count in `lost` what they should have said."""
        self._plan(until)
        self._current = [room for room in self._current if room.until_at >= start]
        out: list[s.Event] = [host_born(mint.of(host.creator_id), host) for host in self._born if host.from_at < until]
        self._born = [host for host in self._born if host.from_at >= until]
        for room in self._current:
            if room.from_at < until:
                own = mint.of(room.creator_id)
                out += _said(own, room, start, until)
                out += self._beats(own, room, start, until, lost)
                if room.close_lost and start <= room.until_at < until:
                    lost["room_closed"] += 1
        return out

    def _beats(self, mint: Mint, room: Room, start: float, until: float, lost: Counter[str]) -> list[s.Event]:
        first = max(int(np.ceil((start - room.from_at) / HEARTBEAT_S)), 1)
        last = int(np.ceil((min(until, room.until_at) - room.from_at) / HEARTBEAT_S))
        out = []
        for number in range(first, last):
            if self._config.lost_heartbeat_share > 0 and self._rng.random() < self._config.lost_heartbeat_share:
                lost["room_heartbeat"] += 1
                continue
            at = room.from_at + number * HEARTBEAT_S
            out.append(mint(s.RoomHeartbeat, at, streamer_id=room.creator_id, room_id=room.item_id))
        return out


def _said(mint: Mint, room: Room, start: float, until: float) -> list[s.Event]:
    """Opening, changes of status and close of a room in [start, until)."""
    who = {"streamer_id": room.creator_id, "room_id": room.item_id}
    out: list[s.Event] = []
    for at, status in room.status:
        if not start <= at < until:
            continue
        if at == room.from_at:
            about = {"category": room.category, "tags": room.tags, "language": room.language}
            title = f"Live {room.category} with {room.creator_id}"
            out.append(mint(s.RoomOpened, at, **who, **about, title=title, status=status))
        else:
            out.append(mint(s.RoomStatusChanged, at, **who, status=status))
    if start <= room.until_at < until and not room.close_lost:
        out.append(mint(s.RoomClosed, room.until_at, **who))
    return out
