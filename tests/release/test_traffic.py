"""Labels and traffic: what the server is told and when, both labels side by side, and what a failure leaves behind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest

import release.publish
import release.traffic
from release.errors import BadLabel, NotServed, NotUsed
from release.model_config import Held, read_model_config, write_model_config
from release.traffic import Traffic
from tests.release.place import FollowingProxy, Place

EFFECTS = 6  # two models, the release, two configurations, live.json


class Killed(BaseException):
    """The process is no more."""


def test_a_canary_stands_beside_stable_and_moves_nothing_else(place: Place) -> None:
    place.deploy(place.candidate(1))
    place.deploy(place.candidate(2), label="canary")
    assert (place.live("stable"), place.live("canary")) == ("demo-1", "demo-2")
    assert (place.server.under("stable"), place.server.under("canary")) == ([1, 1], [2, 2])
    assert place.registry.promoted == [("demo", 1)]


def test_a_canary_stays_loaded_while_stable_moves_on_twice(place: Place) -> None:
    place.deploy(place.candidate(1))
    place.deploy(place.candidate(2), label="canary")
    place.deploy(place.candidate(3))
    place.deploy(place.candidate(4))
    assert place.server.under("canary") == [2, 2]
    assert place.server.available() == [2, 3, 4]


def test_a_canary_that_won_becomes_stable_and_its_label_goes(place: Place) -> None:
    place.deploy(place.candidate(1))
    place.deploy(place.candidate(2), label="canary")
    place.rollback("demo-2")
    place.withdraw()
    assert (place.live("stable"), place.live("canary")) == ("demo-2", None)
    assert (place.server.under("stable"), place.server.under("canary")) == ([2, 2], ["none", "none"])
    assert place.registry.promoted[-1] == ("demo", 2)


def test_a_canary_that_lost_is_taken_out_and_taking_it_out_again_is_harmless(place: Place) -> None:
    place.deploy(place.candidate(1))
    place.deploy(place.candidate(2), label="canary")
    place.withdraw()
    place.withdraw()
    assert (place.live("stable"), place.live("canary")) == ("demo-1", None)
    assert (place.server.under("stable"), place.server.under("canary")) == ([1, 1], ["none", "none"])


def test_stable_cannot_be_taken_out(place: Place) -> None:
    place.deploy(place.candidate(1))
    with pytest.raises(BadLabel, match=r"^label 'stable' is not withdrawn; allowed is canary, or another release"):
        place.withdraw("stable")
    assert place.live() == "demo-1"


def test_a_label_in_use_is_not_moved_before_its_new_version_is_available(place: Place) -> None:
    place.deploy(place.candidate(1))
    seen: list[tuple[dict[str, int], list[int]]] = []
    status = place.server.status

    def watched(model: str, **how: Any) -> Any:
        found = status(model, **how)
        seen.append(
            (dict(read_model_config(place.models).labels), [v.version for v in found if v.state == "AVAILABLE"])
        )
        return found

    place.server.status = watched  # type: ignore[method-assign]
    place.deploy(place.candidate(2))
    assert ({"stable": 1}, [2, 1]) in seen
    assert all(labels["stable"] in loaded for labels, loaded in seen)


def test_a_label_that_does_not_follow_leaves_the_old_release_in_traffic(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.deploy(place.candidate(1))
    monkeypatch.setattr(place.server, "version_of", lambda model, *_, **__: 1 if model == "ranker" else 2)
    with pytest.raises(
        NotServed,
        match=r"^label stable does not answer with version 2 after 0\.3 s: two_tower answers 2, ranker answers 1$",
    ):
        place.deploy(place.candidate(2))
    monkeypatch.undo()
    assert (place.live(), place.server.under("stable")) == ("demo-1", [1, 1])


def test_a_deployment_waits_for_every_proxy_that_is_there(place: Place) -> None:
    place.proxies = [
        FollowingProxy(place.releases),
        FollowingProxy(place.releases, gone=True, address="http://127.0.0.1:2"),
    ]
    place.deploy(place.candidate(1))
    assert place.said[-3:] == [
        "the proxy at http://127.0.0.1:1 has demo-1 as stable", "the proxy at http://127.0.0.1:2 is not there",
        "demo-1: in traffic as stable",
    ]  # fmt: skip


def test_a_proxy_that_does_not_take_the_release_puts_the_old_one_back(place: Place) -> None:
    place.deploy(place.candidate(1))
    place.proxies = [FollowingProxy(place.releases, stuck={"stable": "demo-1"})]
    with pytest.raises(
        NotUsed, match=r"^the proxy at http://127\.0\.0\.1:1 still has demo-1 as stable after 0\.3 s, not demo-2$"
    ):
        place.deploy(place.candidate(2))
    assert (place.live(), place.server.under("stable")) == ("demo-1", [1, 1])
    assert place.registry.promoted == [("demo", 1)]


def test_a_canary_is_not_gone_before_the_proxies_say_so(place: Place) -> None:
    place.deploy(place.candidate(1))
    place.deploy(place.candidate(2), label="canary")
    place.proxies = [FollowingProxy(place.releases, stuck={"stable": "demo-1", "canary": "demo-2"})]
    with pytest.raises(NotUsed, match=r"still has demo-2 as canary after 0\.3 s, not nothing$"):
        place.withdraw()
    assert place.server.under("canary") == [2, 2]


def test_a_platform_that_left_the_versions_to_the_server_keeps_what_is_in_traffic(place: Place) -> None:
    place.deploy(place.candidate(1))
    place.deploy(place.candidate(2))
    place.rollback("demo-1")
    write_model_config(place.models, Held())  # the newest two: with a third folder, 1 would be let go
    place.server.look()
    loaded: list[list[int]] = []
    place.report = lambda line: loaded.append(place.server.available())
    place.deploy(place.candidate(3))
    assert loaded and all(1 in versions for versions in loaded)


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException, *, at: int) -> Iterator[Callable[[], int]]:
    """Raise in the place of the `at`-th thing that changes disk (from 0); yields how many were reached."""
    numbers = count()
    reached: list[int] = []

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*given: Any, **more: Any) -> Any:
            reached.append(number := next(numbers))
            if number == at:
                raise error
            return work(*given, **more)

        return instead

    with monkeypatch.context() as patch:
        patch.setattr(release.publish, "_copy", counted(release.publish._copy))
        patch.setattr(release.traffic, "write_model_config", counted(release.traffic.write_model_config))
        patch.setattr(release.traffic, "point_live", counted(release.traffic.point_live))
        if isinstance(error, Killed):
            patch.setattr(Traffic, "or_back", _nothing_comes_after)
        yield lambda: len(reached)


@contextmanager
def _nothing_comes_after(_: Traffic) -> Iterator[None]:
    yield


@pytest.mark.parametrize("at", range(EFFECTS))
@pytest.mark.parametrize("label", ["stable", "canary"])
def test_killed_before_any_step_the_old_release_answers_and_deploying_again_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch, at: int, label: str
) -> None:
    place.deploy(place.candidate(1))
    if label == "canary":
        place.deploy(place.candidate(2), label="canary")
    before = place.live(label)
    candidate = place.candidate(3)
    with failing(monkeypatch, Killed(), at=at), pytest.raises(Killed):
        place.deploy(candidate, label=label)
    assert place.live(label) == before
    place.server.start()  # it died too, and knows only what is on disk
    place.server.look()
    assert int(str(before)[-1]) in place.server.available()
    place.deploy(candidate, label=label)
    assert (place.live(label), place.server.under(label)) == ("demo-3", [3, 3])
    assert place.server.under("stable") == ([3, 3] if label == "stable" else [1, 1])


@pytest.mark.parametrize("at", range(EFFECTS))
def test_killed_before_any_step_another_release_can_be_deployed_instead(
    place: Place, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    place.deploy(place.candidate(1))
    with failing(monkeypatch, Killed(), at=at), pytest.raises(Killed):
        place.deploy(place.candidate(2))
    place.deploy(place.candidate(3))
    assert (place.live(), place.server.under("stable")) == ("demo-3", [3, 3])


def test_a_label_that_ran_ahead_when_the_process_was_killed_follows_traffic_at_the_next_deployment(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.deploy(place.candidate(1))
    with failing(monkeypatch, Killed(), at=EFFECTS - 1), pytest.raises(Killed):  # before live.json
        place.deploy(place.candidate(2))
    assert (place.live(), place.server.under("stable")) == ("demo-1", [2, 2])
    place.deploy(place.candidate(3), label="canary")
    assert (place.live(), place.server.under("stable"), place.server.under("canary")) == ("demo-1", [1, 1], [3, 3])


@pytest.mark.parametrize("at", range(EFFECTS))
def test_an_error_at_any_step_leaves_label_and_traffic_with_the_old_release(
    place: Place, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    place.deploy(place.candidate(1))
    with failing(monkeypatch, OSError("disk full"), at=at), pytest.raises(OSError, match="disk full"):
        place.deploy(place.candidate(2))
    assert (place.live(), place.server.under("stable")) == ("demo-1", [1, 1])


def test_a_deployment_has_as_many_steps_as_are_failed_above(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.deploy(place.candidate(1))
    with failing(monkeypatch, Killed(), at=-1) as reached:
        place.deploy(place.candidate(2))
    assert reached() == EFFECTS
