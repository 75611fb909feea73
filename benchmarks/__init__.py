"""Benchmarks: each prints one JSON line of figures beside a baseline of the same run; `livefeed bench NAME --json`."""
