"""Viewer tokens: who may say who is asking, and everything that must not pass for it."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from events.clock import SetClock
from serving.errors import KeysRefused, TokenRefused
from serving.tokens import TokenConfig, Tokens

NOW = 1_800_000_000.0
SECRET = b"s" * 32
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def coded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


OCT_KEY = {"kty": "oct", "kid": "h", "k": coded(SECRET)}
RSA_KEY = RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True) | {"kid": "r"}
EC_KEY = ECAlgorithm.to_jwk(EC.public_key(), as_dict=True) | {"kid": "e"}
PUBLIC_PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def write(folder: Path, *keys: dict[str, Any]) -> Path:
    file = folder / "keys.json"
    file.write_text(json.dumps({"keys": keys}))
    return file


def tokens(folder: Path, *keys: dict[str, Any], said: list[str] | None = None, **config: Any) -> Tokens:
    file = write(folder, *(keys or (OCT_KEY, RSA_KEY, EC_KEY)))
    report = [].append if said is None else said.append
    return Tokens(file, SetClock(NOW), config=TokenConfig(**config), report=report, look_s=0.0)


def signed(key: Any = SECRET, algorithm: str = "HS256", *, kid: str | None = "h", **claims: Any) -> str:
    said = {name: value for name, value in ({"sub": "u1", "exp": NOW + 60} | claims).items() if value is not None}
    return "Bearer " + jwt.encode(said, key, algorithm, headers={"kid": kid} if kid else {})


def raw(header: dict[str, Any], claims: Any, secret: bytes = SECRET) -> str:
    """A token made by hand, signed with HMAC whatever its header says."""
    body = f"{coded(json.dumps(header).encode())}.{coded(json.dumps(claims).encode())}"
    return f"Bearer {body}.{coded(hmac.new(secret, body.encode(), hashlib.sha256).digest())}"


def test_a_token_of_each_kind_of_key_says_who_is_asking(tmp_path: Path) -> None:
    checked = tokens(tmp_path)
    for key, algorithm, kid in ((SECRET, "HS256", "h"), (RSA, "RS256", "r"), (EC, "ES256", "e")):
        assert checked.viewer(signed(key, algorithm, kid=kid)) == "u1"


def test_without_a_kid_the_one_key_that_fits_is_meant(tmp_path: Path) -> None:
    assert tokens(tmp_path).viewer(signed(kid=None)) == "u1"
    with pytest.raises(TokenRefused, match="names no key that is known"):
        tokens(tmp_path, OCT_KEY, OCT_KEY | {"kid": "h2"}).viewer(signed(kid=None))


def test_a_missing_token_is_told_from_a_wrong_one(tmp_path: Path) -> None:
    with pytest.raises(TokenRefused, match=r"^a token is missing") as missing:
        tokens(tmp_path).viewer(None)
    with pytest.raises(TokenRefused) as wrong:
        tokens(tmp_path).viewer("Bearer x")
    assert (missing.value.given, wrong.value.given) == (False, True)


NO_KEY = {"alg": "none", "typ": "JWT", "kid": "h"}
GOOD = {"sub": "u1", "exp": NOW + 60}


@pytest.mark.parametrize(
    ("header", "what"),
    [
        (raw(NO_KEY, GOOD), "is signed with 'none'"),
        (raw(NO_KEY, GOOD).rpartition(".")[0] + ".", "is signed with 'none'"),
        (raw(NO_KEY | {"alg": "NONE"}, GOOD), "is signed with 'NONE'"),
        (raw({"alg": "HS512", "kid": "h"}, GOOD), "is signed with 'HS512'"),
        (raw({"alg": ["HS256"], "kid": "h"}, GOOD), "allowed is a token"),
        (raw({"kid": "h"}, GOOD), "allowed is a token"),
        (raw({"alg": "HS256", "kid": "other"}, GOOD), "names no key that is known"),
        (raw({"alg": "HS256", "kid": 7}, GOOD), "allowed is a token"),
        (raw({"alg": "HS256", "kid": "r"}, GOOD, PUBLIC_PEM), "names no key that is known"),
        (raw({"alg": "HS256", "kid": "h"}, GOOD, PUBLIC_PEM), "has a signature that does not fit"),
        (raw({"alg": "RS256", "kid": "r"}, GOOD, PUBLIC_PEM), "has a signature that does not fit"),
        (raw({"alg": "RS256", "kid": "h"}, GOOD), "names no key that is known"),
        (raw({"alg": "HS256", "kid": "h", "crit": ["x"]}, GOOD), "cannot be read"),
        (raw({"alg": "HS256", "kid": "h"}, ["u1"]), "cannot be read"),
        (raw({"alg": "HS256", "kid": "h"}, GOOD)[:-4], "does not fit|cannot be read"),
        ("Bearer a.b", "cannot be read"),
        ("Bearer ....", "cannot be read"),
        ("Bearer " + "é" * 9, "cannot be read"),
        ("Bearer " + "A" * 5000, "Authorization is not allowed"),
        ("Bearer", "Authorization is not allowed"),
        ("Basic dTpw", "Authorization is not allowed"),
        ("", "Authorization is not allowed"),
    ],
)
def test_what_is_not_signed_by_a_key_as_that_key_signs_is_refused(tmp_path: Path, header: str, what: str) -> None:
    with pytest.raises(TokenRefused, match=what):
        tokens(tmp_path).viewer(header)


@pytest.mark.parametrize(
    ("claims", "what"),
    [
        ({"exp": NOW - 31}, "has expired"),
        ({"exp": NOW - 30}, "has expired"),
        ({"exp": None}, "has no exp"),
        ({"exp": "1900000000"}, "has an exp that is no number"),
        ({"exp": True}, "has an exp that is no number"),
        ({"exp": float("nan")}, "has expired"),
        ({"nbf": NOW + 31}, "is not valid yet"),
        ({"nbf": "soon"}, "has an nbf that is no number"),
        ({"sub": None}, "has no sub"),
        ({"sub": ""}, "has no sub of 1 to 128 printable characters"),
        ({"sub": "u" * 129}, "has no sub of 1 to 128"),
        ({"sub": "a\nb"}, "has no sub of 1 to 128"),
        ({"aud": "another"}, "has another aud"),
    ],
)
def test_what_a_token_says_must_hold(tmp_path: Path, claims: dict[str, Any], what: str) -> None:
    body = {name: value for name, value in (GOOD | claims).items() if value is not None}
    with pytest.raises(TokenRefused, match=what):
        tokens(tmp_path).viewer(raw({"alg": "HS256", "kid": "h"}, body))


def test_a_sub_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenRefused):
        tokens(tmp_path).viewer(raw({"alg": "HS256", "kid": "h"}, GOOD | {"sub": 7}))


@pytest.mark.parametrize("claims", [{"exp": NOW - 29}, {"nbf": NOW + 29}, {"exp": NOW + 0.5}, {"iat": NOW + 5_000}])
def test_clocks_may_differ_a_little(tmp_path: Path, claims: dict[str, Any]) -> None:
    assert tokens(tmp_path).viewer(signed(**claims)) == "u1"


def test_issuer_and_audience_must_be_the_configured_ones(tmp_path: Path) -> None:
    checked = tokens(tmp_path, issuer="https://id", audience="feed")
    assert checked.viewer(signed(iss="https://id", aud=["other", "feed"])) == "u1"
    for claims, what in (
        ({"iss": "https://id", "aud": "other"}, "has another aud"),
        ({"iss": "https://id"}, "has no aud"),
        ({"iss": "https://evil", "aud": "feed"}, "has another iss"),
        ({"aud": "feed"}, "has no iss"),
    ):
        with pytest.raises(TokenRefused, match=what):
            checked.viewer(signed(**claims))


def test_keys_that_change_are_followed_and_bad_ones_leave_the_old(tmp_path: Path) -> None:
    said: list[str] = []
    checked = tokens(tmp_path, OCT_KEY, said=said)
    write(tmp_path, EC_KEY)
    with pytest.raises(TokenRefused, match="names no key that is known"):
        checked.viewer(signed())
    assert checked.viewer(signed(EC, "ES256", kid="e")) == "u1"
    (tmp_path / "keys.json").write_text("{")
    assert checked.viewer(signed(EC, "ES256", kid="e")) == "u1"
    (tmp_path / "keys.json").unlink()
    assert checked.viewer(signed(EC, "ES256", kid="e")) == "u1"
    assert [line.endswith("the old ones stay") for line in said] == [False, True, True]


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ({"kty": "oct", "k": coded(b"short")}, "it has 5 bytes, fewer than 32"),
        (RSA_KEY | {"alg": "HS256"}, "is not for one of"),
        (OCT_KEY | {"alg": "HS512"}, "is not for one of"),
        (RSA_KEY | {"use": "enc"}, "is not for one of"),
        ({"kty": "OKP", "crv": "Ed25519", "x": "AA"}, "is not for one of"),
        (EC_KEY | {"crv": "P-384"}, "P-384"),
        (EC_KEY | {"x": coded(b"1" * 32)}, "cannot be read"),
        ({"kty": "RSA", "kid": "r"}, "cannot be read"),
        (OCT_KEY | {"kid": 5}, "kid=5 is not allowed"),
        ("text", "is no key file"),
    ],
)
def test_keys_that_are_not_safe_are_refused_at_the_start(tmp_path: Path, key: Any, what: str) -> None:
    with pytest.raises(KeysRefused, match=what):
        tokens(tmp_path, key)


def test_a_weak_rsa_key_is_refused(tmp_path: Path) -> None:
    weak = rsa.generate_private_key(65537, 1024).public_key()
    with pytest.raises(KeysRefused, match="1024 bits, fewer than 2048"):
        tokens(tmp_path, RSAAlgorithm.to_jwk(weak, as_dict=True))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"keys": []}', '{"keys": 7}', "\x00"])
def test_a_file_without_keys_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(KeysRefused):
        Tokens(tmp_path / "keys.json", SetClock(NOW), config=TokenConfig(), report=print)


def test_two_keys_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeysRefused, match="two of one kid"):
        tokens(tmp_path, OCT_KEY, OCT_KEY)
