"""The exceptions of the monitoring room; every message is one sentence a user can act on."""


class MonitoringError(Exception):
    """Root of what this room raises."""


class NothingToCompare(MonitoringError):
    """A comparison was asked for and one of its sides has no rows."""


class BadPlan(MonitoringError, ValueError):
    """An experiment was planned in a way that cannot be judged; a ValueError too, so that decoding says where it stands."""


class BadRecord(MonitoringError):
    """The log of a canary's decisions is unreadable, or a record in it is not what it says."""


class BadPlaces(MonitoringError):
    """Logged places whose columns cannot belong together, or a policy that cannot be one."""
