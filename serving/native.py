"""Loops over a request's candidates as machine code, compiled by numba for the arrays they are declared for.

A feed's candidates are some 500 rows, and numpy pays each operation on them with a microsecond or two before the first number
is touched; between requests other processes have the caches, so those instructions wait for memory too. One loop for what
took twenty operations costs less than one of them did (docs/adr/0017). Compiled code checks no bounds: loops compare the row
numbers they are given with the arrays they read from.

    @native("float64(float64[::1])")
    def total(values): ...

Compiled when the module is imported, kept beside it (or in the user's cache folder, or not at all where neither can be
written), so that the first process after a change waits some seconds and no request ever does.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def native(*signatures: str) -> Callable[[F], F]:
    """Compile a function for arrays of those types; a call with other types is a TypeError."""

    def compiled(function: F) -> F:
        return _compiled(function, list(signatures))

    return compiled


def helper(function: F) -> F:
    """A function that natives call; compiled into each of them."""
    return _compiled(function, None)


def _compiled(function: F, signatures: list[str] | None) -> F:
    try:
        made: Any = numba.njit(signatures, cache=True)(function)
    except RuntimeError as error:
        if "no locator" not in str(error):
            raise
        made = numba.njit(signatures)(function)
    return cast(F, made)
