"""Room 2, what we know: feature definitions said once, their online and offline stores, samples and the encoder."""
