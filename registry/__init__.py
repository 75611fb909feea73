"""Room 3, what we trained: manifests, the MLflow store, lines, releases and verdicts."""
