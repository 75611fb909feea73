"""The contract of each topic as JSON Schema: what a producer in any language must send (docs/schemas/, one file a topic).

livefeed events schema --out docs/schemas
"""

import inspect
import typing
from pathlib import Path
from typing import Any

import msgspec

from events.compatibility import Sides, narrowed
from events.errors import EventsError
from events.fields import about
from events.schema import Event
from events.topics import TOPICS, Topic, topic, union_of

Contract = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PARTITIONER = "murmur2"
PARTITIONS = (
    "Partition = murmur2 of the key's UTF-8 bytes, its sign bit cleared, modulo the number of partitions: the default of "
    "Kafka's Java client. The number is set when the topic is made (LIVEFEED_TOPIC_PARTITIONS). Order and the search for "
    "repeated event ids hold within a partition, so every producer of a key must choose the same one."
)
# Exactly the forms that the reader takes; that the day exists in its month only the reader checks.
TIME = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
TIME += r"([Zz]|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])$"


def contract(topic_name: str) -> Contract:
    """The contract of one topic as a JSON Schema document; UnknownTopic names the ones there are."""
    known = topic(topic_name)
    version = version_of(known)
    names = [kind.__name__ for kind in known.types]
    _, found = msgspec.json.schema_components([union_of(topic_name)], ref_template="#/$defs/{name}")
    tags = {str(kind.__struct_config__.tag): f"#/$defs/{kind.__name__}" for kind in known.types}
    for kind in known.types:
        _describe(kind, found[kind.__name__])
    document = {
        "$schema": DIALECT,
        "$id": f"urn:livefeed:{topic_name}:v{version}",
        "title": topic_name,
        "description": f"One message of the topic {topic_name}: UTF-8 JSON, one of {len(names)} types told apart by `type`.",
        "x-topic": topic_name,
        "x-version": version,
        "x-key": known.key,
        "x-partitioner": PARTITIONER,
        "x-partitions": PARTITIONS,
        "anyOf": [{"$ref": ref} for ref in tags.values()],
        "discriminator": {"propertyName": "type", "mapping": tags},
        "$defs": {name: found[name] for name in [*names, *sorted(found.keys() - set(names))]},
    }
    plain: Contract = msgspec.json.decode(msgspec.json.encode(document))  # tuples among the defaults become arrays
    return plain


def version_of(known: Topic) -> int:
    """The highest `schema_v` that a topic's events may say."""
    return max(int(one) for kind in known.types for one in typing.get_args(typing.get_type_hints(kind)["schema_v"]))


def example(kind: type[Event]) -> dict[str, Any]:
    """One event of a type as JSON values, every field present but `schema_v`."""
    shown = {field: about(kind, field).example for field in kind.__struct_fields__ if field != "schema_v"}
    return {"type": str(kind.__struct_config__.tag)} | shown


def _describe(kind: type[Event], schema: dict[str, Any]) -> None:
    """Add to a type's schema what its annotations cannot say: the meaning of its fields, the form of times, an example."""
    schema["description"] = inspect.cleandoc(schema["description"])
    for field in kind.__struct_fields__:
        at = schema["properties"][field]
        for place in (at, *at.get("anyOf", ())):
            if place.get("format") == "date-time":
                place["pattern"] = TIME
        at["description"] = about(kind, field).meaning
    schema["examples"] = [example(kind)]


def text(document: Any) -> str:
    """A document as the files hold it."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def file_name(document: Contract) -> str:
    """The name of a contract's file: topic and version."""
    return f"{document['x-topic']}.v{document['x-version']}.json"


def write(folder: Path, names: typing.Iterable[str] = tuple(TOPICS)) -> list[Path]:
    """Write the contracts of those topics into a folder that exists, and return the files."""
    documents = [contract(name) for name in names]
    if not folder.is_dir():
        raise EventsError(f"there is no folder '{folder}'; make it first, or leave --out away to print")
    out = []
    for document in documents:
        path = folder / file_name(document)
        try:
            path.write_text(text(document), encoding="utf-8")
        except OSError as error:
            raise EventsError(f"the contract cannot be written to '{path}': {error.strerror}") from None
        out.append(path)
    return out


def breaks(old: Contract, new: Contract) -> list[str]:
    """What a reader of `new` refuses, misreads or misplaces of the events of `old`, one sentence each; empty when nothing.

    Contracts are as `contract` makes them. An optional field or a type more is no break: old events have neither.
    """
    found = []
    for word, why in (
        ("x-topic", "old events lie elsewhere"),
        ("x-key", "one entity's old and new events lose their order"),
        ("x-partitioner", "one key's old and new events lie on different partitions"),
    ):
        if old[word] != new[word]:
            found.append(f"{word.removeprefix('x-')}: changed from {old[word]!r} to {new[word]!r}: {why}")
    sides = Sides(old["$defs"], new["$defs"])
    now = new["discriminator"]["mapping"]
    for tag, ref in old["discriminator"]["mapping"].items():
        if tag not in now:
            found.append(f"{tag}: the type is removed")
        else:
            found += narrowed(tag, {"$ref": ref}, {"$ref": now[tag]}, sides=sides)
    return found
