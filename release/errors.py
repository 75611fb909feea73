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


class BadLabel(ReleaseError):
    """No release is put under that label."""


class NotUsed(ReleaseError):
    """A proxy did not take a release in time."""


class CannotStart(ReleaseError):
    """A promotion cannot begin as asked."""


class NoExperiment(ReleaseError):
    """There is no experiment that this could be done to."""


class Barred(ReleaseError):
    """A release may not come under a label without a promotion."""


class NotAudited(ReleaseError):
    """A promotion is decided, and no audit of its line stands any more."""


class NoAnswer(ReleaseError):
    """A proxy is there and does not say what it uses."""


class StillInTraffic(ReleaseError):
    """What was taken out of traffic still answers viewers."""
