"""A platform with viewers, hosts and a catalogue whose truth is known; it speaks only HTTP and Kafka to the product.

docs/world.md lists its dials and which numbers are assumptions. Run it with `livefeed world run`.
"""

from simulator.config import WorldConfig
from simulator.errors import BadDial, FeedFailed, WorldError
from simulator.feed import Feed, FeedItem, HttpFeed, MixedFeed, NoFeed, RandomFeed
from simulator.report import WorldReport
from simulator.world import World, run

__all__ = [
    "BadDial", "Feed", "FeedFailed", "FeedItem", "HttpFeed", "MixedFeed", "NoFeed", "RandomFeed", "World", "WorldConfig",
    "WorldError", "WorldReport", "run",
]  # fmt: skip
