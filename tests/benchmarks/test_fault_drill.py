"""The fault drill in small on parts of its own: no feed fails, each says what it lacks, and no impression is lost."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks import drill_rooms
from benchmarks.drill import ZERO, DrillConfig, faults
from benchmarks.drill_load import LIMIT, Answer, first_of_a_run
from settings import Settings

TAKEN = (("redis", "killed"), ("redis", "slowed"), ("model-server", "frozen"), ("kafka", "frozen"))
SMALL = DrillConfig(calm_s=0.5, fault_s=1.6, faults=TAKEN)


def answer(ended: float, *degraded: str, items: int = LIMIT) -> Answer:
    return Answer(ended - 0.01, ended, 200, "q", ("m",) * items, frozenset(degraded))


def test_a_run_of_whole_answers_begins_again_after_one_that_is_not() -> None:
    poorer, short = answer(2, "model_unavailable"), answer(5, items=3)
    answers = [answer(1), poorer, answer(3), answer(4), short, answer(6), answer(7)]
    assert [first_of_a_run(answers, n) for n in (1, 2, 3)] == [answers[0], answers[3], None]


@contextmanager
def quiet() -> Iterator[list[str]]:
    """What was said, shown when it fails."""
    said: list[str] = []
    try:
        yield said
    except BaseException:
        print("\n".join(said))
        raise


@pytest.mark.parts
def test_no_feed_fails_and_no_impression_is_lost_whatever_is_taken_away() -> None:
    with quiet() as said:
        figures = faults(Settings(), 7, said.append, config=SMALL)
    print(figures)
    assert figures["answers"]
    assert {name: figures[name] for name in ZERO if figures.get(name)} == {}
    assert [name for name, value in figures.items() if value is None] == []  # every part came back


@pytest.mark.parts
def test_no_room_is_shown_a_second_after_its_end_and_without_looking_again_some_are() -> None:
    with quiet() as said:
        figures, _ = drill_rooms.figures(Settings(), 7, said.append, answers=2_000)
    print(figures)
    assert figures["room_answers_empty"] == 0
    assert figures["rooms_shown"] and figures["control_dead_rooms_shown"]
    assert figures["dead_rooms_shown"] == 0
