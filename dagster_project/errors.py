"""The exceptions of the pipeline's shell; every message is one sentence a user can act on."""


class PipelineError(Exception):
    """Root of what this package raises."""


class UnknownDays(PipelineError):
    """Event dates that are not partitions of the pipeline."""
