"""The exceptions of the registry room; every message is one sentence a user can act on."""


class RegistryError(Exception):
    """Root of what this room raises."""


class RegistryUnavailable(RegistryError):
    """MLflow did not answer."""


class UnknownRelease(RegistryError):
    """A release or version that is not registered."""


class NotPassed(RegistryError):
    """A promotion was asked for without a passing verdict."""


class BadManifest(RegistryError):
    """A release manifest is missing, unreadable or incomplete."""


class BadVerdict(RegistryError):
    """A candidate's verdict is missing or unreadable."""
