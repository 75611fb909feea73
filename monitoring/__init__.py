"""Process 4, still true and better: statistics of a comparison, the offline gate, rates with intervals, drift."""
