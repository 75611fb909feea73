"""Cursors: what they say comes back, nobody else can write one, and they fit where they go."""

import base64
import stat
import string
from pathlib import Path

import pytest

from events.schema import ContentType, Surface
from serving.cursor import LONGEST, PLACES, TTL_S, Signer, after, check_same, key_of, new_session, short_hash
from serving.errors import BadRequest
from serving.feed import FeedRequest, Session

KEY = b"k" * 32
LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
REQUEST = FeedRequest(
    request_id="q", user_id="u1", now=1000.0, surface=Surface.PLAYBACK, content_type=ContentType.LIVE,
    context_item_id="m7", diversity=0.3, locale="pt-BR",
)  # fmt: skip


def made(request: FeedRequest = REQUEST, *, offset: int = 20, shown: tuple[int, ...] = (1, 2)) -> str:
    session = Session(session_id="ab" * 16, offset=offset, shown=len(shown), release="")
    return Signer(KEY).write(after(request, session, release="demo-3", shown=shown))


def test_what_was_written_is_read() -> None:
    read = Signer(KEY).read(made(), now=1000.0)
    assert (read.session_id, read.offset, read.shown) == ("ab" * 16, 20, (1, 2))
    assert (read.surface, read.content_type, read.diversity) == (Surface.PLAYBACK, ContentType.LIVE, 0.3)
    assert read.expires_at == 1000.0 + TTL_S


def test_a_cursor_of_a_whole_session_fits_into_two_kilobytes() -> None:
    longest = made(offset=PLACES, shown=tuple(range(2**48 - PLACES, 2**48)))
    assert len(longest) == LONGEST
    assert LONGEST <= 2048


def test_no_letter_of_it_can_be_changed_or_left_out() -> None:
    text = made()
    for at in range(len(text)):
        other = LETTERS[LETTERS.index(text[at]) ^ 1]  # in the last letter that is a bit of no byte
        for forged in (text[:at] + other + text[at + 1 :], text[:at], text[at + 1 :]):
            with pytest.raises(BadRequest, match=r"^cursor=.* is not allowed; allowed is the next_cursor"):
                Signer(KEY).read(forged, now=1000.0)


def test_another_key_reads_nothing() -> None:
    with pytest.raises(BadRequest):
        Signer(b"x" * 32).read(made(), now=1000.0)


def test_a_signed_cursor_of_another_version_is_refused() -> None:
    signer = Signer(KEY)
    raw = bytearray(base64.urlsafe_b64decode(made() + "=="[: -len(made()) % 4]))
    body = bytes([2]) + bytes(raw[1:-32])
    text = base64.urlsafe_b64encode(body + signer._mac(body)).rstrip(b"=").decode()
    with pytest.raises(BadRequest):
        signer.read(text, now=1000.0)


def test_it_is_good_until_its_time_is_over() -> None:
    Signer(KEY).read(made(), now=1000.0 + TTL_S)
    with pytest.raises(BadRequest, match="has expired 1 s ago"):
        Signer(KEY).read(made(), now=1001.0 + TTL_S)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user_id", "u2"),
        ("surface", Surface.HOME),
        ("content_type", None),
        ("context_item_id", None),
        ("context_item_id", "m8"),
        ("diversity", 0.4),
        ("locale", "pt-PT"),
    ],
)
def test_what_differs_from_the_first_page_is_named(name: str, value: object) -> None:
    fields = {one: getattr(REQUEST, one) for one in REQUEST.__struct_fields__}
    with pytest.raises(BadRequest, match=f"^{name}=.* is not allowed with this cursor"):
        check_same(Signer(KEY).read(made(), now=1000.0), FeedRequest(**(fields | {name: value})))


def test_limit_and_time_may_differ_from_page_to_page() -> None:
    fields = {one: getattr(REQUEST, one) for one in REQUEST.__struct_fields__}
    check_same(Signer(KEY).read(made(), now=1000.0), FeedRequest(**(fields | {"limit": 3, "now": 1200.0})))


def test_hashes_are_the_same_in_every_process_and_sessions_never() -> None:
    """The number: BLAKE2b, six bytes, of "m7", as `b2sum -l 48` says."""
    assert short_hash("m7") == 0xDA5A81899AF0
    assert new_session() != new_session()


def test_processes_that_start_together_share_one_key(tmp_path: Path) -> None:
    file = tmp_path / "serving" / "cursor.key"
    first, second = key_of("", file), key_of("", file)
    assert first == second
    assert len(first) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in file.parent.iterdir()] == ["cursor.key"]


def test_a_key_from_the_settings_makes_no_file(tmp_path: Path) -> None:
    assert key_of("s" * 32, tmp_path / "cursor.key") == b"s" * 32
    assert not list(tmp_path.iterdir())
