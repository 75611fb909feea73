"""The exceptions of the features room; every message is one sentence a user can act on."""


class FeaturesError(Exception):
    """Root of what this room raises."""


class StoreUnavailable(FeaturesError):
    """The online store did not answer within the time allowed."""


class NoSamples(FeaturesError):
    """A sample build found nothing to train on."""


class BadEncoder(FeaturesError):
    """An encoder file is missing, unreadable or of another schema."""


class NoTable(FeaturesError):
    """An offline table that is needed does not exist yet."""


class BadRange(FeaturesError):
    """A range of dates or a share that cannot be asked for."""


class SparkUnavailable(FeaturesError):
    """The local Spark cannot start."""
