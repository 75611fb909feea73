"""The exceptions of the events room; every message is one sentence a user can act on."""


class EventsError(Exception):
    """Root of what this room raises."""


class MalformedEvent(EventsError):
    """Bytes that cannot be parsed or break their topic's schema; `reason` is what a dead letter records."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownTopic(EventsError):
    """A topic name outside the platform's topics."""


class LogUnavailable(EventsError):
    """The event log (Kafka) did not answer within the time allowed."""


class EventRefused(EventsError):
    """The event log will never take this event, however often it is sent: it is too large, or not valid there."""


class BadDataset(EventsError):
    """A data set to replay is missing, unreadable or not in the documented format."""
