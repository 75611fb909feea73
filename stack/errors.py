"""The exceptions of the stack; every message is one sentence a user can act on."""


class StackError(Exception):
    """Root of what this package raises."""


class JavaMissing(StackError):
    """No Java 17 or newer was found."""


class JarsUnavailable(StackError):
    """A Java archive could not be downloaded, or is not the one the lock names."""


class StackBusy(StackError):
    """Another `up` or `down` is at work on the same state folder."""


class PartFailed(StackError):
    """A part did not start: its port is taken, it died, or it never answered."""


class UnknownPart(StackError):
    """A part name that the stack does not have."""
