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


class BadCandidate(TrainingError):
    """A candidate or release is asked for that is not there."""


class NothingToRerank(TrainingError):
    """No logged request of a month can be put in order again by two releases."""


class AuditOnlyInput(TrainingError):
    """An encoder or an exported model reads an attribute that only the audit may."""
