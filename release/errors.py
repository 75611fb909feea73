"""The exceptions of the release room; every message is one sentence a user can act on."""


class ReleaseError(Exception):
    """Root of what this room raises; a missing pass is registry.errors.NotPassed."""


class BadCandidate(ReleaseError):
    """A candidate's folder is not whole, or its version belongs to another release."""


class CannotPublish(ReleaseError):
    """The disk did not take the copy of a candidate."""


class NotServed(ReleaseError):
    """The model server did not load a release in time, or does not answer as the release says."""


class UnknownRelease(ReleaseError):
    """No published release has that name."""


class Busy(ReleaseError):
    """Another deployment or roll-back is under way."""
