"""Recall's array work against plain loops: which candidate keeps which source, and the rooms of hosts."""

import numpy as np
import pytest

from serving.catalogue_view import CatalogueView
from serving.item_table import ItemTable
from serving.loops import admitted, merged


@pytest.mark.parametrize("seed", range(20))
def test_the_first_source_with_room_for_a_row_has_it_and_what_is_beyond_a_quota_is_left_to_the_others(
    seed: int,
) -> None:
    pick = np.random.default_rng(seed)
    sizes = pick.integers(0, 60, 7).tolist()
    rows = pick.integers(0, 3_000_000 if seed % 2 else 80, sum(sizes))
    fine, quotas, total = pick.random(len(rows)) < 0.8, pick.integers(0, 40, 7), int(pick.integers(0, 150))
    kept, ends = list[int](), np.cumsum(sizes)
    for begin, end, quota in zip(ends - sizes, ends, quotas.tolist(), strict=True):
        own = list[int]()
        for place in range(begin, end):
            if fine[place] and rows[place] not in rows[kept + own] and len(own) < quota and len(kept + own) < total:
                own.append(place)
        kept += own
    assert merged(rows, fine, ends, quotas, total).tolist() == kept


@pytest.mark.parametrize("seed", range(20))
def test_rules_admit_what_plain_conditions_admit_and_nothing_beyond_the_columns(seed: int) -> None:
    pick = np.random.default_rng(seed)
    size, live, wanted = 50, 2, int(pick.integers(-1, 3))
    kind, maker = pick.integers(-1, 3, size).astype(np.int8), pick.integers(0, 12, size).astype(np.int32)
    listed, lease = pick.random(size) < 0.7, pick.random(size)
    rows = pick.integers(0, size + 5, 200)
    seen, blocked = pick.integers(0, size, pick.integers(0, 20)), pick.integers(0, 12, pick.integers(0, 4))

    def fine(row: int) -> bool:
        if row >= size or kind[row] < 0 or (wanted >= 0 and kind[row] != wanted):
            return False
        if kind[row] == live and not (listed[row] and lease[row] > 0.5):
            return False
        return row not in seen.tolist() and maker[row] not in blocked.tolist()

    found = admitted(rows, kind, listed, lease, maker, seen, blocked, live, wanted, 0.5)
    assert found.tolist() == [fine(row) for row in rows.tolist()]


def test_hosts_that_are_named_twice_or_are_not_live_bring_each_room_once_in_the_order_of_hosts() -> None:
    table, host_of = ItemTable(), {"r1": "h1", "r2": "h2", "r3": "h1", "r4": "h3"}
    for room, host in host_of.items():
        table.put(room, {}, creator_id=host, now=0.0)
    table.put("m1", {}, creator_id="h4", now=0.0)
    view = CatalogueView(table=table, live=table.rows(list(host_of)))
    hosts = np.array([table.creator_row[one] for one in ("h3", "h4", "h1", "h3", "h1")])
    assert [table.id_of[row] for row in view.rooms_of(hosts)] == ["r1", "r3", "r4"]
    assert not view.rooms_of(np.array([table.creator_row["h4"]])).size
