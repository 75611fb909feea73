"""Process 1, events to stores: reads the log, writes the offline tables and the online features, each event once."""
