"""A viewer's feed as a plain table: item, why it was retrieved, score by objective."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def feed_table(feed: Mapping[str, Any]) -> Table:
    """One row an item, in feed order; `feed` is the proxy's answer."""
    objectives = sorted({name for item in feed["items"] for name in item["scores"] or {}})
    title = f"feed of {feed['user_id']} · release {feed['release']}"
    table = Table("#", "item", "kind", "category", "why", "score", *objectives, title=title)
    for item in feed["items"]:
        kind = f"LIVE ({item['status']})" if item["live"] else item["content_type"]
        name = item["title"] or item["item_id"]
        scores = [f"{item['scores'][name]:.3f}" if name in (item["scores"] or {}) else "" for name in objectives]
        score = "" if item["score"] is None else f"{item['score']:.3f}"
        table.add_row(str(item["position"] + 1), name, kind, item["category"], item["source"], score, *scores)
    return table


def show_feed(feed: Mapping[str, Any]) -> None:
    """Print the table as wide as it needs to be, whatever the terminal."""
    Console(width=128, soft_wrap=False).print(feed_table(feed))
