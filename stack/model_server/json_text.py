"""JSON as the REST API reads and shows it: RapidJSON's grammar, error words and byte offsets; NaN and Infinity allowed."""

import json
import math
import re
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np
import orjson

from stack.model_server.errors import ServingError

NESTING = 256
UINT64_MAX = 2**64 - 1
INT64_MIN = -(2**63)
FLOAT32_MAX = 3.4028234663852886e38
# What the standard parser reads otherwise than RapidJSON: numbers beyond a double, halves of surrogate pairs.
DOUBTFUL = re.compile(rb"[eE]\+?[0-9]{3}|[0-9]{309}|\\u[dD][89a-fA-F]")
BLANK = re.compile(rb"[ \t\n\r]*")
PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)")
DIGITS = re.compile(rb"[0-9]*")
ESCAPES = {
    b'"': '"', b"\\": "\\", b"/": "/", b"b": "\b", b"f": "\f", b"n": "\n", b"r": "\r", b"t": "\t",
}  # fmt: skip
WORDS = {b"n": (b"null", None), b"t": (b"true", True), b"f": (b"false", False)}


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object a body starts with; what follows it is ignored.

    Bytes that are not UTF-8 stay in strings as surrogate escapes. INVALID_ARGUMENT with the offset when there is no object.
    """
    if not body:
        raise ServingError.invalid("JSON Parse error: The document is empty")
    value = _fast(body)
    if value is None:
        value = Scanner(body).document()
    if not isinstance(value, dict):
        raise ServingError.invalid(f"JSON Value: {show(value)} Is not object")
    return value


def is_double(value: object) -> bool:
    """Whether RapidJSON keeps a number as a double: it was written with a point or exponent, or fits no 64-bit integer."""
    if type(value) is int:
        return not INT64_MIN <= value <= UINT64_MAX
    return type(value) is float


def type_name(value: object) -> str:
    """The JSON type of a parsed value, in RapidJSON's words."""
    if isinstance(value, bool):
        return "True" if value else "False"
    names = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
    return names.get(type(value), "Null")


def show(value: object) -> str:
    """A parsed value as an error message shows it."""
    if is_double(value):
        number = float(value)  # type: ignore[arg-type]
        return decimals(np.array([number], np.float32 if abs(number) <= FLOAT32_MAX else np.float64))[0]
    try:
        return json.dumps(value, indent=4, ensure_ascii=False)
    except RecursionError:
        return "..."


def decimals(values: np.ndarray[Any, Any]) -> list[str]:
    """Floats as upstream writes them: six digits where these read back as the same value, else 9 (double: 17).

    Whole numbers end in `.0`; NaN, Infinity and -Infinity are written as such.
    """
    flat = values.ravel()
    numbers = flat.tolist()
    short = [f"{number:g}" for number in numbers]
    back = np.array([float(text) for text in short], flat.dtype)
    if (back == flat).all() and np.isfinite(flat).all():
        return [text if "." in text or "e" in text else text + ".0" for text in short]
    digits = 9 if flat.dtype == np.float32 else 17
    rows = zip(numbers, short, (back == flat).tolist(), strict=True)
    return [_decimal(number, text if same else f"{number:.{digits}g}") for number, text, same in rows]


def _decimal(number: float, text: str) -> str:
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    return text if "." in text or "e" in text else text + ".0"


def _fast(body: bytes) -> Any:
    """The value by a parser in C; None when none of them accepts the body (then the scanner says where) or it is null."""
    # Several times as fast, and strict: no NaN, no number beyond a double, nothing after the value, UTF-8 throughout.
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(body)
    if DOUBTFUL.search(body):
        return None
    text = body.decode("utf-8-sig", "surrogateescape")
    with suppress(ValueError, RecursionError):
        return json.JSONDecoder().raw_decode(text.lstrip(" \t\n\r"))[0]
    return None


class Scanner:
    """Reads one JSON value byte by byte as RapidJSON does: slower, exact about errors and where they are."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 3 if body.startswith(b"\xef\xbb\xbf") else 0

    def document(self) -> Any:
        """The value; ServingError in RapidJSON's words with the offset in bytes."""
        self._skip()
        if self._at == len(self._body):
            self._fail("The document is empty.")
        return self._value(0)

    def _value(self, depth: int) -> Any:
        byte = self._peek()
        if byte in (b"{", b"["):
            if depth == NESTING:
                self._fail(f"Nesting is deeper than {NESTING} levels.")
            return self._object(depth + 1) if byte == b"{" else self._array(depth + 1)
        if byte == b'"':
            return self._string()
        if byte in WORDS:
            word, value = WORDS[byte]
            self._take_word(word)
            return value
        return self._number()

    def _object(self, depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        self._at += 1
        self._skip()
        if self._take(b"}"):
            return out
        while True:
            if self._peek() != b'"':
                self._fail("Missing a name for object member.")
            name = self._string()
            self._skip()
            if not self._take(b":"):
                self._fail("Missing a colon after a name of object member.")
            self._skip()
            out[name] = self._value(depth)
            self._skip()
            if self._take(b"}"):
                return out
            if not self._take(b","):
                self._fail("Missing a comma or } after an object member.")
            self._skip()

    def _array(self, depth: int) -> list[Any]:
        out: list[Any] = []
        self._at += 1
        self._skip()
        if self._take(b"]"):
            return out
        while True:
            out.append(self._value(depth))
            self._skip()
            if self._take(b"]"):
                return out
            if not self._take(b","):
                self._fail("Missing a comma or ] after an array element.")
            self._skip()

    def _string(self) -> str:
        parts: list[str] = []
        self._at += 1
        while True:
            found = PLAIN.match(self._body, self._at)
            parts.append(found.group().decode("utf-8", "surrogateescape") if found else "")
            self._at = found.end() if found else self._at
            if self._take(b'"'):
                return "".join(parts)
            if self._peek() == b"\\":
                parts.append(self._escape())
            elif self._peek() in (b"", b"\0"):
                self._fail("Missing a closing quotation mark in string.")
            else:
                self._fail("Invalid encoding in string.")

    def _escape(self) -> str:
        start = self._at
        kind = self._body[start + 1 : start + 2]
        self._at += 2
        if kind in ESCAPES:
            return ESCAPES[kind]
        if kind != b"u":
            self._fail("Invalid escape character in string.", at=start)
        code = self._hex(start)
        if not 0xD800 <= code <= 0xDFFF:
            return chr(code)
        if code > 0xDBFF or self._body[self._at : self._at + 2] != b"\\u":
            self._fail("The surrogate pair in string is invalid.", at=start)
        self._at += 2
        low = self._hex(start)
        if not 0xDC00 <= low <= 0xDFFF:
            self._fail("The surrogate pair in string is invalid.", at=start)
        return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))

    def _hex(self, start: int) -> int:
        text = self._body[self._at : self._at + 4]
        if not re.fullmatch(rb"[0-9a-fA-F]{4}", text):
            self._fail("Incorrect hex digit after \\u escape in string.", at=start)
        self._at += 4
        return int(text, 16)

    def _number(self) -> int | float:
        start = self._at
        whole = NUMBER.match(self._body, start)
        if whole is None:
            return self._not_finite()
        self._at = whole.end()
        if self._take(b"."):
            self._digits("Miss fraction part in number.")
        if self._take(b"e") or self._take(b"E"):
            self._at += self._peek() in (b"+", b"-")
            self._digits("Miss exponent in number.")
        text = self._body[start : self._at]
        number = float(text)
        if math.isinf(number):
            self._fail("Number too big to be stored in double.", at=start)
        return int(text) if self._at == whole.end() else number

    def _not_finite(self) -> float:
        negative = self._take(b"-")
        if self._peek() == b"N":
            self._take_word(b"NaN")
            return math.nan
        if self._peek() != b"I":
            self._fail("Invalid value.")
        self._take_word(b"Inf")
        if self._peek() == b"i":
            self._take_word(b"inity")
        return -math.inf if negative else math.inf

    def _digits(self, missing: str) -> None:
        found = DIGITS.match(self._body, self._at)
        if found is None or found.end() == self._at:
            self._fail(missing)
        self._at = found.end()

    def _take_word(self, word: bytes) -> None:
        for byte in word:
            if not self._take(bytes((byte,))):
                self._fail("Invalid value.")

    def _peek(self) -> bytes:
        return self._body[self._at : self._at + 1]

    def _take(self, byte: bytes) -> bool:
        taken = self._body[self._at : self._at + 1] == byte
        self._at += taken
        return taken

    def _skip(self) -> None:
        found = BLANK.match(self._body, self._at)
        self._at = found.end() if found else self._at

    def _fail(self, what: str, *, at: int | None = None) -> NoReturn:
        raise ServingError.invalid(f"JSON Parse error: {what} at offset: {self._at if at is None else at}")
