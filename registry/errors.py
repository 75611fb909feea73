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


class BadNeighbours(RegistryError):
    """The neighbour lists of a release are unreadable or do not agree with each other."""


class BadFormula(RegistryError):
    """A formula names an objective that no model has, or holds a number that makes no score."""


class BadScores(RegistryError):
    """A ranker's answers make no score under the formula."""


class BadReranked(RegistryError):
    """A file of re-ranked requests is missing, unreadable, or of another month or line than was asked for."""


class BadExperiment(RegistryError):
    """An experiment cannot be run as it is written down, or its record is unreadable."""
