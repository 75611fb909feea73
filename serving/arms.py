"""Which arm of which experiment answers a viewer: by default everyone gets the stable release."""

from collections.abc import Callable
from typing import NamedTuple

from serving.feed import STABLE


class Arm(NamedTuple):
    """One viewer's arm: its name as impressions carry it, the label of the release that answers, the experiment."""

    name: str = STABLE
    label: str = STABLE
    experiment: str = ""


Assign = Callable[[str], Arm]  # by user id; a pure function of the experiment's record


def everyone_stable(user_id: str) -> Arm:
    """No experiment runs."""
    return Arm()
