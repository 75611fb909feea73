"""The exceptions of the features room; every message is one sentence a user can act on."""

from events.log import Place


class FeaturesError(Exception):
    """Root of what this room raises."""


class StoreUnavailable(FeaturesError):
    """The online store did not answer within the time allowed."""


class StoreSetBack(FeaturesError):
    """The online store, or a shard of it, stands elsewhere than where its writer left it: lost writes, or a rival's."""

    def __init__(self, places: frozenset[Place]) -> None:
        names = ", ".join(f"{place.topic}/{place.partition}" for place in sorted(places))
        super().__init__(f"the online store's progress of {names} is not what this writer left; read it again first")
        self.places = places


class NoSamples(FeaturesError):
    """A sample build found nothing to train on."""


class BadEncoder(FeaturesError):
    """An encoder file is missing, unreadable or of another schema."""


class BadUserTower(FeaturesError):
    """A user tower's file cannot be used, or what it answers is not numbers."""


class NoTable(FeaturesError):
    """An offline table that is needed does not exist yet."""


class BadRange(FeaturesError):
    """A range of dates or a share that cannot be asked for."""


class SparkUnavailable(FeaturesError):
    """The local Spark cannot start."""


class TablesUnavailable(FeaturesError):
    """The offline tables could not be read or written."""


class VersionGone(FeaturesError):
    """A version of a table that can no longer be read, or was never written; the message names those that can."""


class LockHeld(FeaturesError):
    """Somebody else works on the lake; the message says who and for how long."""
