"""Asks the proxies which releases they use: a pointer that moved is not traffic that moved."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import httpx

from release.errors import NoAnswer, NotUsed

EVERY_S = 0.1
TIMEOUT_S = 2.0
NOT_THERE = "is not there"


class Proxy(Protocol):
    """What a deployment asks of a proxy."""

    @property
    def address(self) -> str:
        """Where it is, for messages."""
        ...

    def in_use(self) -> Mapping[str, str] | None:
        """The release by label; None when no proxy is there, NoAnswer when one is and does not say."""
        ...


class AdminProxy:
    """A proxy, through its administration at `address` (http://host:port)."""

    def __init__(self, address: str, *, token: str = "") -> None:
        self.address = address
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def in_use(self) -> Mapping[str, str] | None:
        """The release by label, NoAnswer when it does not say in time; None when nothing listens."""
        try:
            answer = httpx.get(f"{self.address}/admin/versions", headers=self._headers, timeout=TIMEOUT_S)
            answer.raise_for_status()
            return {str(label): str(one["release"]) for label, one in answer.json().items()}
        except httpx.ConnectError:
            return None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise NotUsed(
                f"the proxy address {self.address!r} is not allowed ({error}); allowed is http://host:port"
            ) from None
        except httpx.HTTPStatusError as error:
            raise NotUsed(
                f"the proxy at {self.address} does not say what it uses: {error.response.text[:200]}"
            ) from None
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise NoAnswer(
                f"the proxy at {self.address} does not say what it uses: {type(error).__name__}: {error}"
            ) from None


def wait_until_used(
    proxies: Sequence[Proxy], label: str, name: str | None, *, wait_s: float, report: Callable[[str], None]
) -> None:
    """Wait until every proxy has the release under the label (None: none); one that is not there reads it when it starts.

    One that does not say what it has is no proof of anything, of an empty label neither.
    """
    deadline = time.monotonic() + wait_s
    for proxy in proxies:
        while (seen := _seen(proxy, label)) not in (_has(name, label), NOT_THERE):
            if time.monotonic() > deadline:
                raise NotUsed(f"the proxy at {proxy.address} still {seen} after {wait_s:g} s, not {name or 'nothing'}")
            time.sleep(EVERY_S)
        report(f"the proxy at {proxy.address} {seen}")


def _seen(proxy: Proxy, label: str) -> str:
    """What is seen of a proxy, in words that are equal for what counts alike."""
    try:
        held = proxy.in_use()
    except NoAnswer:
        return f"does not say what it has as {label}"
    return NOT_THERE if held is None else _has(held.get(label), label)


def _has(name: str | None, label: str) -> str:
    return f"has {name or 'nothing'} as {label}"
