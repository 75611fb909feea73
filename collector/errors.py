"""The exceptions of the collector; every message is one sentence a user can act on."""


class CollectorError(Exception):
    """Root of what this process raises."""


class Stopped(CollectorError):
    """A stop was asked for while a store or the log did not answer: nothing more can be written now."""


class NotStored(CollectorError):
    """The offline tables did not reach the end of the log within the time allowed."""


class CannotRebuild(CollectorError):
    """The online store cannot be filled from the tables as things stand; the message says what to do."""
