"""Puts promotions together from a platform's folders and addresses; and a time lapse's clock."""

from collections.abc import Sequence
from pathlib import Path

from events.clock import Clock, WallClock
from features.errors import FeaturesError
from registry.mlflow_store import MlflowRegistry
from release.canary_rows import newest_impression
from release.promotion import Promotion
from release.promotion_acts import Acts, Ends
from release.proxies import AdminProxy
from release.traffic import Report, silent
from serving.tf_serving import TfServing

CANARIES, AUDITS = "canaries", "audits"  # folders in var


class StoredClock:
    """Now is the newest stored impression: the time of a world that says what time it is with its requests."""

    def __init__(self, lake: Path, otherwise: Clock) -> None:
        self._lake, self._otherwise = lake, otherwise

    def now(self) -> float:
        """Epoch seconds, UTC; the other clock's where nothing is stored or it cannot be read."""
        try:
            newest = newest_impression(self._lake)
        except FeaturesError:
            newest = None
        return self._otherwise.now() if newest is None else newest


def open_promotion(
    var: Path, *, model_server: str, mlflow: str, proxies: Sequence[str], token: str, time_lapse: bool, who: str,
    clock: Clock | None = None, wait_s: float = 60.0, report: Report = silent,
) -> Promotion:  # fmt: skip
    """The promotions of the platform whose state lies in `var`; `proxies` are administrations, http://host:port."""
    lake = var / "lake"
    now = clock or (StoredClock(lake, WallClock()) if time_lapse else WallClock())
    ends = Ends(
        releases=var / "releases", models=var / "models", server=TfServing(model_server), registry=MlflowRegistry(mlflow),
        proxies=[AdminProxy(address.rstrip("/"), token=token) for address in proxies], wait_s=wait_s, report=report,
    )  # fmt: skip
    return Promotion(acts=Acts(ends=ends, clock=now, who=who), lake=lake, folder=var / CANARIES, audits=var / AUDITS)
