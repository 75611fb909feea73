"""The exceptions of the serving room; every message is one sentence a user can act on."""


class ServingError(Exception):
    """Root of what this room raises."""


class ModelUnavailable(ServingError):
    """The model server did not answer in time, or does not hold the model and version that was asked for."""


class ModelRefused(ServingError):
    """The model server, or the client before it, refused a request that no retry will make right."""


class ReleaseRefused(ServingError):
    """A release cannot be loaded whole, so the proxy keeps the one it has."""


class BadRequest(ServingError):
    """A feed request has a field or value that is not allowed."""


class UnknownItem(BadRequest):
    """A request names an item that no table has."""


class BadQuery(ServingError):
    """A search of an index asks with a vector or a set of rows that does not fit the index."""


class TokenRefused(ServingError):
    """A request has no viewer token, or one that does not show who is asking; `given` says which."""

    def __init__(self, sentence: str, *, given: bool = True) -> None:
        super().__init__(sentence)
        self.given = given


class WrongViewer(ServingError):
    """A request asks for the feed of another viewer than its token's."""


class KeysRefused(ServingError):
    """A file of token keys cannot be used safely."""


class AdminRefused(ServingError):
    """The administration is asked for something it does not have, or to listen where it must not."""
