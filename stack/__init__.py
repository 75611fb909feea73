"""The real parts on one machine: Kafka, Redis, MLflow, Dagster, model server, collector, proxy; started and stopped."""

from stack.parts import Parts, PartStatus

__all__ = ["PartStatus", "Parts"]
