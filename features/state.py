"""What an event changes: definitions applied event by event. The collector, the replay and the sample build all ask here."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from events.schema import Event
from events.topics import kind_of
from features.aggregates import Contribution, State
from features.definitions import BY_ENTITY, FEATURES, Entity, Feature, Take

# An entity's state: feature name -> that feature's aggregate state.
EntityState = dict[str, State]
_BY_NAME: dict[tuple[Entity, str], Feature] = {(f.entity, f.name): f for f in FEATURES}


class Catalogue(Protocol):
    """Looks up item attributes (media items and rooms) that engagement events do not carry."""

    def attributes(self, item_id: str) -> Mapping[str, Any]:
        """Attribute values by ITEM feature name (`category`, `tags`, `content_type`, `creator_id`); empty if unknown."""
        ...


class Update(NamedTuple):
    """One contribution to one feature of one entity."""

    entity: Entity
    entity_id: str
    feature: Feature
    at: float
    what: Contribution


def _by_tag(entity: Entity) -> dict[str, list[tuple[Feature, Take]]]:
    out: dict[str, list[tuple[Feature, Take]]] = {}
    for feature in BY_ENTITY[entity]:
        for tag, take in feature.on.items():
            out.setdefault(tag, []).append((feature, take))
    return out


_ON: dict[Entity, dict[str, list[tuple[Feature, Take]]]] = {entity: _by_tag(entity) for entity in Entity}


def item_of(event: Event) -> str | None:
    """The recommendable thing an event is about: its item id or room id."""
    return getattr(event, "item_id", None) or getattr(event, "room_id", None)


def creator_of(event: Event, catalogue: Catalogue) -> str | None:
    """The creator or host an event is about, looked up through its item where the event does not say."""
    direct = getattr(event, "creator_id", None) or getattr(event, "streamer_id", None)
    if direct:
        return str(direct)
    item = item_of(event)
    found = catalogue.attributes(item).get("creator_id") if item else None
    return None if found is None else str(found)


def pair_id(user_id: str, creator_id: str) -> str:
    """Id of the PAIR entity."""
    return f"{user_id}|{creator_id}"


def entity_ids(event: Event, catalogue: Catalogue) -> dict[Entity, str]:
    """The entities an event touches, at most one of each kind."""
    tag = kind_of(event)
    out: dict[Entity, str] = {}
    user = getattr(event, "user_id", None)
    if user and tag in _ON[Entity.USER]:
        out[Entity.USER] = user
    item = item_of(event)
    if item and tag in _ON[Entity.ITEM]:
        out[Entity.ITEM] = item
    if tag in _ON[Entity.CREATOR] or tag in _ON[Entity.PAIR]:
        creator = creator_of(event, catalogue)
        if creator and tag in _ON[Entity.CREATOR]:
            out[Entity.CREATOR] = creator
        if creator and user and tag in _ON[Entity.PAIR]:
            out[Entity.PAIR] = pair_id(user, creator)
    return out


def _field(event: Event, path: str, attributes: Mapping[str, Any]) -> Any:
    value = attributes.get(path[5:]) if path.startswith("item.") else getattr(event, path, None)
    if isinstance(value, datetime):
        return value.timestamp()
    return list(value) if isinstance(value, tuple) else value


def _contributions(event: Event, take: Take, attributes: Mapping[str, Any]) -> Iterator[Contribution]:
    """One contribution, or one a word where the key is a list; none where the key or value is missing."""
    weight = float(getattr(event, take.weight_field)) if take.weight_field else take.weight
    if take.key:
        found = _field(event, take.key, attributes)
        for key in found if isinstance(found, list) else [found]:
            if key is not None:
                yield Contribution(weight, take.den, key=str(key))
    elif take.value:
        value = _field(event, take.value, attributes)
        if value is not None:
            yield Contribution(weight, take.den, value=value)
    else:
        yield Contribution(weight, take.den, value=take.const)


def updates(event: Event, catalogue: Catalogue) -> Iterator[Update]:
    """Every contribution of an event, in definition order."""
    tag = kind_of(event)
    at = event.event_at.timestamp()
    ids = entity_ids(event, catalogue)
    item = item_of(event)
    attributes = catalogue.attributes(item) if item else {}
    for entity, entity_id in ids.items():
        for feature, take in _ON[entity].get(tag, ()):
            for what in _contributions(event, take, attributes):
                yield Update(entity, entity_id, feature, at, what)


def apply(state: EntityState, update: Update) -> None:
    """Fold one contribution into its entity's state, in place."""
    name, aggregate = update.feature.name, update.feature.aggregate
    held = state[name] if name in state else aggregate.zero()
    state[name] = aggregate.add(held, update.at, update.what)


def merge(entity: Entity, states: Iterable[EntityState]) -> EntityState:
    """One entity's state over all its source partitions."""
    out: EntityState = {}
    for state in states:
        for name, part in state.items():
            feature = _BY_NAME.get((entity, name))
            if feature is None:  # written by a newer or older version of the definitions
                continue
            out[name] = feature.aggregate.merge(out[name], part) if name in out else part
    return out


def values(entity: Entity, state: EntityState, now: float) -> dict[str, Any]:
    """Every feature of the entity as of `now` (epoch seconds); the definition's default where nothing was seen."""
    out: dict[str, Any] = {}
    for feature in BY_ENTITY[entity]:
        got = feature.aggregate.finish(state[feature.name], now) if feature.name in state else None
        out[feature.name] = feature.default if got is None else got
    return out
