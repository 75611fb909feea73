"""The exceptions of the simulator; every message is one sentence."""


class WorldError(Exception):
    """Root of what the simulator raises."""


class BadDial(WorldError):
    """A dial of the world is outside its range; the message names dial, value and range."""


class FeedFailed(WorldError):
    """The feed did not answer a request with a page of items."""


class NotSettled(WorldError):
    """The product did not catch up with the world's events in the time allowed."""
