"""The exceptions of the monitoring room; every message is one sentence a user can act on."""


class MonitoringError(Exception):
    """Root of what this room raises."""


class NothingToCompare(MonitoringError):
    """A comparison was asked for and one of its sides has no rows."""
