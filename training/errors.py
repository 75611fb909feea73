"""The exceptions of the training room; every message is one sentence a user can act on."""


class TrainingError(Exception):
    """Root of what this room raises."""


class TooFewSamples(TrainingError):
    """There is not enough to train on or to evaluate with."""


class Diverged(TrainingError):
    """A loss or a weight is not a number any more."""


class UnreadableExport(TrainingError):
    """An exported model does not load, or does not answer as the trained one does."""


class BadDials(TrainingError):
    """A training configuration has a value outside its range."""


class SeenInTraining(TrainingError):
    """A model was to be measured on samples it was trained on."""
