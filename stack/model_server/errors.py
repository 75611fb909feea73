"""What the model server answers when it cannot: a gRPC status and TensorFlow Serving's own words for it."""

from typing import Self

import grpc

LONGEST = 1024


class ServingError(Exception):
    """A refused request or configuration, with the status it has on the wire."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def number(self) -> int:
        """The code as a number, as in StatusProto."""
        return int(self.code.value[0])

    @property
    def details(self) -> str:
        """The message as a gRPC status carries it: cut, since it travels in a header."""
        return self.message if len(self.message) <= LONGEST else self.message[:LONGEST] + "...TRUNCATED"

    @property
    def status(self) -> str:
        """Code and message in one line, e.g. `NOT_FOUND: no such file`."""
        return f"{self.code.name}: {self.message}"

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

    @classmethod
    def unimplemented(cls, message: str) -> Self:
        """UNIMPLEMENTED."""
        return cls(grpc.StatusCode.UNIMPLEMENTED, message)


def code_of(number: int) -> grpc.StatusCode:
    """The gRPC status of a TensorFlow error code; UNKNOWN for a number that has none."""
    return next((code for code in grpc.StatusCode if code.value[0] == number), grpc.StatusCode.UNKNOWN)
