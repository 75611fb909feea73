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
