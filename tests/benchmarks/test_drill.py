"""The faults drill's own parts: its tape, and how it tells two runs apart."""

from collections import Counter

from benchmarks.compare import differing
from benchmarks.tape import Message, TapeConfig, displaced, record


def test_the_same_seed_gives_the_same_tape() -> None:
    config = TapeConfig(events=300)
    assert record(config) == record(config)
    assert record(config) != record(TapeConfig(events=300, seed=8))


def test_two_copies_are_sent_within_the_bound_unless_the_event_is_to_be_late() -> None:
    heard = [Message(60.0 * n, "media.published", b"k", str(n).encode()) for n in range(200)]
    at = {message.value: message.due for message in heard}
    tape = displaced(heard, TapeConfig(lateness_s=600.0, late_share=0.1))
    assert Counter(message.value for message in tape) == Counter({message.value: 2 for message in heard})
    moved = Counter(message.due - at[message.value] >= 600.0 for message in tape)
    assert [message.due for message in tape] == sorted(message.due for message in tape)
    assert 10 < moved[True] < 80
    assert max(message.due - at[message.value] for message in tape) < 1_200.0


def test_a_row_that_one_side_lacks_or_has_otherwise_is_a_difference() -> None:
    assert differing({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 9, "d": 4}) == ["b", "c", "d"]
