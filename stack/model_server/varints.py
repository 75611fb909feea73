"""The variable-length integers of protobuf's wire format and of TensorFlow's packed words."""


class BadBytes(ValueError):
    """Bytes that are no message."""


def varint(number: int) -> bytes:
    """A base-128 varint of a number that is not negative."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """The varint at a place and the place after it; BadBytes when it does not end."""
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise BadBytes("a varint does not end")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
