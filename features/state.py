"""What an event changes: definitions applied event by event. The collector, the replay and the sample build all ask here.

The definitions are compiled once into a plan by event type: which entities it touches, and what it adds to each of their
states.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from events.schema import Event
from events.topics import TOPICS
from features.aggregates import Aggregate, Contribution, Look, State, look_nowhere
from features.definitions import BY_ENTITY, FEATURES, WORDS, Entity, Feature, Take

# An entity's state: state name -> that aggregate's state.
EntityState = dict[str, State]
# Of every feature: its name, its state's, how it is read, and what it is where nothing was seen.
_READS = {
    entity: tuple((one.name, one.state, one.aggregate.finish, one.default) for one in features)
    for entity, features in BY_ENTITY.items()
}
ESCAPE = "\x1f"  # in a pair's id: with a 1 for a `|` in the viewer's, with a 0 for itself
Value = Callable[[Event, float], Any]
_STATES: dict[Entity, dict[str, Aggregate]] = {
    entity: {f.name: f.aggregate for f in FEATURES if f.entity is entity and not f.reads} for entity in Entity
}


class Step(NamedTuple):
    """What an event adds to one state: a contribution made beforehand, or the event's own key, value or weight."""

    name: str
    aggregate: Aggregate
    ready: Contribution | None
    make: Callable[[Event, float], Contribution | None] | None


class Group(NamedTuple):
    """The states of one entity that an event type changes; `id_of` says which entity, None for none."""

    entity: Entity
    id_of: Callable[[Event], str | None]
    steps: tuple[Step, ...]


def pair_id(user_id: str, creator_id: str) -> str:
    """Id of the PAIR entity: what stands before its first `|` is one viewer's alone."""
    plain = "|" not in user_id and ESCAPE not in user_id
    return f"{user_id}|{creator_id}" if plain else f"{viewer_part(user_id)}|{creator_id}"


def viewer_part(user_id: str) -> str:
    """A viewer's id as a pair's begins: without `|`, which ids may hold (`auth0|4711`); any other id is as it is."""
    return user_id.replace(ESCAPE, f"{ESCAPE}0").replace("|", f"{ESCAPE}1")


def ids_of_pair(pair: str) -> tuple[str, str]:
    """The viewer and the creator of a PAIR entity's id."""
    viewer, _, creator = pair.partition("|")
    return viewer.replace(f"{ESCAPE}1", "|").replace(f"{ESCAPE}0", ESCAPE), creator


def item_of(event: Event) -> str | None:
    """The recommendable thing an event is about: its item id or room id."""
    return getattr(event, "item_id", None) or getattr(event, "room_id", None)


def creator_of(event: Event) -> str | None:
    """The creator or host whom an event names."""
    return getattr(event, "creator_id", None) or getattr(event, "streamer_id", None)


def item_key_of(event: Event) -> str | None:
    """What id lists hold of the thing: a room's host, else the item."""
    return getattr(event, "streamer_id", None) or getattr(event, "item_id", None)


def _user_of(event: Event) -> str | None:
    return getattr(event, "user_id", None)


def _pair_of(event: Event) -> str | None:
    user, creator = _user_of(event), creator_of(event)
    return pair_id(user, creator) if user and creator else None


_IDS: dict[str, Callable[[Event], str | None]] = {
    "user": _user_of, "item": item_of, "creator": creator_of, "pair": _pair_of,
}  # fmt: skip


def _reader(path: str) -> Value:
    """How to read a key or value: `item_key`, `hour`, or an event field (times as epoch seconds, tuples as lists)."""
    if path == "item_key":
        return lambda event, at: item_key_of(event)
    if path == "hour":
        return lambda event, at: f"{int(at // 3600) % 24:02d}"
    if path == "event_at":
        return lambda event, at: at
    return lambda event, at: _plain(getattr(event, path, None))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.timestamp()
    return list(value) if isinstance(value, tuple) else value


def _step(feature: Feature, take: Take) -> Step:
    if not (take.key or take.value or take.weight_field or take.when):
        return Step(feature.name, feature.aggregate, Contribution(take.weight, take.den, None, take.const), None)
    key = _reader(take.key) if take.key else None
    value = _reader(take.value) if take.value else None

    def make(event: Event, at: float) -> Contribution | None:
        if take.when is not None and getattr(event, take.when[0], None) != take.when[1]:
            return None
        weight = float(getattr(event, take.weight_field)) if take.weight_field else take.weight
        if key is not None:
            found = key(event, at)
            return None if found is None else Contribution(weight, take.den, found)
        if value is not None:
            found = value(event, at)
            return None if found is None else Contribution(weight, take.den, None, found)
        return Contribution(weight, take.den)

    return Step(feature.name, feature.aggregate, None, make)


def _plan(tag: str) -> tuple[Group, ...]:
    steps: dict[tuple[Entity, str], list[Step]] = {}
    for feature in FEATURES:
        if tag in feature.on and not feature.reads:
            by = feature.by or feature.entity.value
            steps.setdefault((feature.entity, by), []).append(_step(feature, feature.on[tag]))
    return tuple(Group(entity, _IDS[by], tuple(made)) for (entity, by), made in steps.items())


PLANS: dict[type[Event], tuple[Group, ...]] = {
    kind: _plan(str(kind.__struct_config__.tag)) for topic in TOPICS.values() for kind in topic.types
}


def fold(event: Event, at: float, state_of: Callable[[Entity, str], EntityState | None]) -> None:
    """Add an event at epoch second `at` to every state it changes; `state_of` gives an entity's state, None to skip it."""
    for entity, id_of, steps in PLANS[type(event)]:
        entity_id = id_of(event)
        if not entity_id:
            continue
        state = state_of(entity, entity_id)
        if state is None:
            continue
        for name, aggregate, ready, make in steps:
            what = ready if make is None else make(event, at)
            if what is not None:
                held = state.get(name)
                state[name] = aggregate.add(aggregate.zero() if held is None else held, at, what)


def touched(event: Event) -> list[tuple[Entity, str]]:
    """The entities that an event changes."""
    found = ((group.entity, group.id_of(event)) for group in PLANS[type(event)])
    return [(entity, entity_id) for entity, entity_id in found if entity_id]


def merge(entity: Entity, states: Iterable[EntityState]) -> EntityState:
    """One state of many partitions' states, which are left as they were."""
    known = _STATES[entity]  # what is not in it a newer or older version of the definitions wrote
    every = iter(states)
    out = {name: part for name, part in next(every, {}).items() if name in known}
    for state in every:
        for name, part in state.items():
            if name in known:
                out[name] = known[name].merge(out[name], part) if name in out else part
    return out


def values(entity: Entity, state: EntityState, now: float, look: Look = look_nowhere) -> dict[str, Any]:
    """Every feature of the entity as of `now` (epoch seconds); the definition's default where nothing was seen.

    `look` finds the words of the things a viewer met; without it features about words are empty.
    """
    out: dict[str, Any] = {}
    for name, held_as, finish, default in _READS[entity]:
        held = state.get(held_as)
        got = None if held is None else finish(held, now, look)
        out[name] = default if got is None else got
    return out


def value(feature: Feature, state: EntityState, now: float, look: Look = look_nowhere) -> Any:
    """One feature as of `now`: the finishing that every reader shares."""
    held = state.get(feature.state)
    got = None if held is None else feature.aggregate.finish(held, now, look)
    return feature.default if got is None else got


def item_keys(state: EntityState) -> list[str]:
    """The item keys in a viewer's state whose words her features are read through."""
    found = dict.fromkeys(key for items in state.get("top_categories_7d", {}).values() for key in items)
    return list(found | dict.fromkeys(state.get("tag_affinity", ())))


def words_of(item: Mapping[str, Any], creator: Mapping[str, Any]) -> dict[str, Any]:
    """What a Look returns for a key: the item's attributes as held, else those of the host's last room."""
    held = item if item.get("content_type") is not None else creator
    return {name: held[name][1] for name in WORDS if held.get(name) is not None}
