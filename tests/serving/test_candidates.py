"""Recall's array work against plain loops: which candidate keeps which source, and the rooms of hosts."""

import numpy as np
import pytest

from serving.candidates import firsts
from serving.catalogue import CatalogueView
from serving.item_table import ItemTable


@pytest.mark.parametrize("seed", range(5))
def test_a_row_that_many_sources_name_is_kept_where_it_stands_first(seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 3_000_000 if seed % 2 else 40, size=seed * 150)
    assert firsts(rows).tolist() == np.sort(np.unique(rows, return_index=True)[1]).tolist()


def test_hosts_that_are_named_twice_or_are_not_live_bring_each_room_once_in_the_order_of_hosts() -> None:
    table, host_of = ItemTable(), {"r1": "h1", "r2": "h2", "r3": "h1", "r4": "h3"}
    for room, host in host_of.items():
        table.put(room, {}, creator_id=host, now=0.0)
    table.put("m1", {}, creator_id="h4", now=0.0)
    view = CatalogueView(table=table, live=table.rows(list(host_of)))
    hosts = np.array([table.creator_row[one] for one in ("h3", "h4", "h1", "h3", "h1")])
    assert [table.id_of[row] for row in view.rooms_of(hosts)] == ["r1", "r3", "r4"]
    assert not view.rooms_of(np.array([table.creator_row["h4"]])).size
