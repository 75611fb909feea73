"""grpc.health.v1.Health/Check by hand: two one-field messages need no package. Watch is left UNIMPLEMENTED."""

from typing import Any

import grpc

CHECK = "grpc.health.v1.Health"
# HealthCheckRequest{string service = 1} and HealthCheckResponse{status = 1: SERVING}.
WHOLE_SERVER, SERVING = b"", b"\x08\x01"


def handlers() -> "grpc.GenericRpcHandler[Any, Any]":
    """The method for a gRPC server: the whole server is SERVING while it answers; single services are not known."""
    return grpc.method_handlers_generic_handler(CHECK, {"Check": grpc.unary_unary_rpc_method_handler(_check)})


def _check(request: bytes, context: grpc.ServicerContext) -> bytes:
    # An empty string may be left out or sent.
    if request not in (WHOLE_SERVER, b"\x0a\x00"):
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return SERVING
