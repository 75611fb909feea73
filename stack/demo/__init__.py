"""`livefeed demo`: the whole loop on the real parts, from events to a ranked feed and back, in a few minutes."""
