"""Room 5, model to answer: the feed proxy, its pipeline, candidates, filters and the model server's client."""
