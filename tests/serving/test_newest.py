"""The newest media: as sorting the whole catalogue would give them, whatever came and went."""

from hypothesis import given
from hypothesis import strategies as st

from serving.newest import Newest


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.none() | st.integers(0, 5)), max_size=40))
def test_the_newest_are_those_of_a_sorted_catalogue(happened: list[tuple[str, int | None]]) -> None:
    newest, there = Newest(4), dict[str, int]()
    for item, at in happened:
        if at is None:
            there.pop(item, None)
            newest.drop(item)
        else:
            there[item] = at
            newest.put(item, at)
        if newest.is_short:
            newest.refill(there.items())
        held = sorted(there, key=lambda one: (-there[one], one))[: len(newest.ids())]
        assert list(newest.ids()) == held
        assert len(held) >= min(len(there), 2)
