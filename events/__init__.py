"""Room 1, what happened: event schemas, topics, the log they travel on, dead letters and replay."""
