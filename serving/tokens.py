"""Signed viewer tokens (JWT, RFC 7519): who is asking, checked with the keys of a JWKS file that may be replaced."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import msgspec
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, RSAAlgorithm

from events.clock import Clock
from serving.errors import KeysRefused, TokenRefused
from serving.query import is_id

LOOK_EVERY_S = 1.0
LONGEST = 4_096
RSA_BITS, SECRET_BYTES = 2_048, 32
ALGORITHMS = {"oct": "HS256", "RSA": "RS256", "EC": "ES256"}  # a kind of key signs one way only: no key confusion
_SENTENCE = "the token {}; allowed is a token signed with {} by a known key, with sub and exp"
_SIGNED = ", ".join(ALGORITHMS.values())


@dataclass(frozen=True)
class TokenConfig:
    """What a token must say."""

    issuer: str = ""  # of `iss`; empty: not asked for
    audience: str = ""  # in `aud`; empty: then a token must have none
    leeway_s: float = 30.0  # how far clocks may differ


@dataclass(frozen=True)
class _Key:
    kid: str | None
    algorithm: str
    key: Any


class Tokens:
    """Checks tokens against a key file; KeysRefused when that cannot be used at the start, later the old keys stay."""

    def __init__(
        self,
        keys: Path,
        clock: Clock,
        *,
        config: TokenConfig,
        report: Callable[[str], None],
        look_s: float = LOOK_EVERY_S,
    ) -> None:
        self._file, self._clock, self._config, self._report, self._look_s = keys, clock, config, report, look_s
        self._lock = threading.Lock()
        self._mark, self._looked = _mark(keys), time.monotonic()
        self._keys = read_keys(keys)

    def viewer(self, authorization: str | None) -> str:
        """The `sub` of a Bearer token; TokenRefused without one or when anything about it is wrong."""
        if authorization is None:
            raise TokenRefused("a token is missing; allowed is Authorization: Bearer and a token", given=False)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > LONGEST:
            raise TokenRefused(
                f"Authorization is not allowed; allowed is Bearer and a token of at most {LONGEST} characters"
            )
        claims = self._verified(token)
        self._timely(claims)
        subject = claims.get("sub")
        if not isinstance(subject, str) or not is_id(subject):
            raise TokenRefused(_SENTENCE.format("has no sub of 1 to 128 printable characters", _SIGNED))
        return subject

    def _verified(self, token: str) -> dict[str, Any]:
        """The claims of a token whose signature, issuer and audience are right."""
        config = self._config
        try:
            header = jwt.get_unverified_header(token)
            one = self._key(header)
            return jwt.decode(
                token,
                one.key,
                algorithms=[one.algorithm],
                issuer=config.issuer or None,
                audience=config.audience or None,
                # Times are checked against our clock, not the library's.
                options={"require": ["exp", "sub"], "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except (jwt.InvalidTokenError, RecursionError) as error:
            raise TokenRefused(_SENTENCE.format(_said(error), _SIGNED)) from None

    def _key(self, header: dict[str, Any]) -> _Key:
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS.values():
            raise TokenRefused(_SENTENCE.format(f"is signed with {str(algorithm)[:16]!r}", _SIGNED))
        fitting = [one for one in self._current() if one.algorithm == algorithm and kid in (None, one.kid)]
        if len(fitting) != 1:
            raise TokenRefused(_SENTENCE.format("names no key that is known", _SIGNED))
        return fitting[0]

    def _timely(self, claims: dict[str, Any]) -> None:
        now, leeway = self._clock.now(), self._config.leeway_s
        for name, early in (("exp", False), ("nbf", True)):
            at = claims.get(name)
            if at is None and name == "nbf":
                continue
            if isinstance(at, bool) or not isinstance(at, int | float):
                raise TokenRefused(_SENTENCE.format(f"has an {name} that is no number", _SIGNED))
            if (at > now + leeway) if early else not at > now - leeway:
                raise TokenRefused(_SENTENCE.format("is not valid yet" if early else "has expired", _SIGNED))

    def _current(self) -> list[_Key]:
        """The keys, read again when the file has changed."""
        with self._lock:
            if time.monotonic() - self._looked >= self._look_s:
                self._looked, mark = time.monotonic(), _mark(self._file)
                if mark != self._mark:
                    self._mark = mark
                    self._replace()
            return self._keys

    def _replace(self) -> None:
        try:
            self._keys = read_keys(self._file)
            self._report(f"token keys: {len(self._keys)} keys read")
        except KeysRefused as error:
            self._report(f"token keys: {error}; the old ones stay")


def read_keys(file: Path) -> list[_Key]:
    """The keys of a JWKS file (RFC 7517); KeysRefused, naming the key, when any cannot be used safely."""
    try:
        found = msgspec.json.decode(file.read_bytes())
        rows = found["keys"]
        keys = [_read_key(row) for row in rows]
    except (OSError, msgspec.MsgspecError, LookupError, TypeError, AttributeError) as error:
        raise KeysRefused(f"{file} is no key file ({error}); allowed is a JWKS: an object with a list `keys`") from None
    except UnicodeDecodeError:
        raise KeysRefused(f"{file} is no key file; allowed is a JWKS in UTF-8") from None
    ids = [(one.kid, one.algorithm) for one in keys]
    if not keys or len(set(ids)) != len(ids):
        raise KeysRefused(
            f"{file} has {len(keys)} keys, or two of one kid; allowed is one or more, each with its own kid"
        )
    return keys


def _read_key(row: dict[str, Any]) -> _Key:
    kind, kid = row.get("kty"), row.get("kid")
    algorithm = ALGORITHMS.get(str(kind))
    if algorithm is None or row.get("alg", algorithm) != algorithm or row.get("use", "sig") != "sig":
        raise KeysRefused(
            f"key {kid!r} is not for one of {_SIGNED}; allowed are kty {', '.join(ALGORITHMS)} for signatures"
        )
    if kid is not None and not isinstance(kid, str):
        raise KeysRefused(f"kid={kid!r} is not allowed; allowed is a text")
    try:
        return _Key(kid, algorithm, _material(str(kind), row))
    except (jwt.InvalidKeyError, ValueError, KeyError, TypeError) as error:
        raise KeysRefused(f"key {kid!r} cannot be read ({error}); allowed is a JWK of RFC 7517") from None


def _material(kind: str, row: dict[str, Any]) -> Any:
    """The key; one that is too weak is a ValueError."""
    if kind == "oct":
        secret = HMACAlgorithm.from_jwk(row)
        if len(secret) < SECRET_BYTES:
            raise ValueError(f"it has {len(secret)} bytes, fewer than {SECRET_BYTES}")
        return secret
    public = {name: value for name, value in row.items() if name not in ("d", "p", "q", "dp", "dq", "qi", "oth")}
    if kind == "RSA":
        rsa: Any = RSAAlgorithm.from_jwk(public)
        if rsa.key_size < RSA_BITS:
            raise ValueError(f"it has {rsa.key_size} bits, fewer than {RSA_BITS}")
        return rsa
    if row.get("crv") != "P-256":
        raise ValueError(f"its curve is {row.get('crv')!r}, not P-256")
    return ECAlgorithm.from_jwk(public)


def _mark(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _said(error: Exception) -> str:
    """What is wrong, in our words: the library's may repeat what the client sent."""
    words = {
        jwt.InvalidIssuerError: "has another iss",
        jwt.InvalidAudienceError: "has another aud",
        jwt.InvalidSignatureError: "has a signature that does not fit",
        jwt.MissingRequiredClaimError: f"has no {getattr(error, 'claim', 'claim')}",
    }
    return words.get(type(error), "cannot be read")
