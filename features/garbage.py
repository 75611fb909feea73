"""Python's garbage collector in processes that hold millions of states, none of them in a cycle."""

import gc

# Allocations before a young pass, young passes before a middle one, middle ones before a full one. A full pass over the
# states stops a process for half a second: under 2,000 events/s it was most of the 99th percentile of freshness.
YOUNG, MIDDLE, OLD = 100_000, 50, 1_000_000


def seldom_pass_over_everything() -> None:
    """Leave cycles that lived long to an explicit `gc.collect()`; those that die young go as before."""
    gc.set_threshold(YOUNG, MIDDLE, OLD)
