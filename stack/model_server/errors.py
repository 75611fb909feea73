"""What the model server answers when it cannot: a gRPC status and TensorFlow Serving's own words for it."""

from typing import Self

import grpc

LONGEST = 1024


class ServingError(Exception):
    """A refused request or configuration, with the status it has on the wire."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        cut = message if len(message) <= LONGEST else message[:LONGEST] + "...TRUNCATED"
        super().__init__(cut)
        self.code = code
        self.message = cut

    @property
    def number(self) -> int:
        """The code as a number, as in StatusProto."""
        return int(self.code.value[0])

    @classmethod
    def invalid(cls, message: str) -> Self:
        """INVALID_ARGUMENT."""
        return cls(grpc.StatusCode.INVALID_ARGUMENT, message)

    @classmethod
    def not_found(cls, message: str) -> Self:
        """NOT_FOUND."""
        return cls(grpc.StatusCode.NOT_FOUND, message)

    @classmethod
    def precondition(cls, message: str) -> Self:
        """FAILED_PRECONDITION."""
        return cls(grpc.StatusCode.FAILED_PRECONDITION, message)


def code_of(number: int) -> grpc.StatusCode:
    """The gRPC status of a TensorFlow error code; UNKNOWN for a number that has none."""
    return next((code for code in grpc.StatusCode if code.value[0] == number), grpc.StatusCode.UNKNOWN)
