"""A candidate that has met too few viewers: the file of re-ranked requests it is audited on, and what that cannot tell."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from monitoring.audit_record import AuditReason, Trouble
from monitoring.audit_rows import Reranked
from monitoring.errors import BadRecord
from registry.errors import BadReranked
from registry.reranked import Card, month_days, read_reranked


def load_reranked(path: Path, *, month: str, line: str, against: str = "") -> Reranked:
    """A file of `livefeed training rerank`; BadRecord when it cannot be read or is of another month, line or incumbent."""
    try:
        card, rows = read_reranked(path, month=month, line=line)
    except BadReranked as error:
        raise BadRecord(str(error)) from None
    held_against = card.incumbent.rpartition("-")[0]
    if against and held_against != against:
        raise BadRecord(f"{path} has a candidate held against line {held_against}; asked for is {against}")
    return Reranked(rows, card)


def met_too_few(impressions: pa.Table, line: str, *, viewers: int) -> bool:
    """Whether a line's releases showed something to fewer viewers than that in these impressions."""
    names = pc.unique(impressions["release"]).to_pylist()
    ours = [str(one) for one in names if str(one).rpartition("-")[0] == line]
    shown = impressions.filter(pc.is_in(impressions["release"], value_set=pa.array(ours, pa.string())))
    return len(pc.unique(shown["user_id"])) < viewers


def cannot_tell(card: Card | None) -> list[Trouble]:
    """What an audit on re-ranked requests leaves open; none of it holds."""
    texts = [
        "what was shown was put in order again, and its first part counts as shown: items that only the candidate would "
        "have recalled and the rules of a page (caps, diversity, drawn places) are not in it, and disparities look smaller "
        "than on the candidate's own pages; completions, depth and return of sessions were not audited"
    ]
    if card is not None:
        left = "".join(f"; {count:,} left out with {why}" for why, count in sorted(card.left_out.items()))
        texts.append(
            f"{card.requests:,} requests with {card.rows:,} items, of {card.drawn:,} drawn from {card.logged:,} logged{left}"
        )
        texts += _seen("candidate", card.candidate_until, card) + _seen("incumbent", card.incumbent_until, card)
    return [Trouble(AuditReason.NOT_MEASURED, text, holds=False) for text in texts]


def _seen(side: str, until: str, card: Card) -> list[str]:
    """ISO 8601 dates compare as text."""
    first, following = month_days(card.month)
    if not until or until < first.isoformat():
        return []
    seen = "all of the month" if until >= following.isoformat() else f"the month up to {until[:10]}"
    return [
        f"the {side} was trained on {seen}: its order and predictions fit that better than they would fit new requests"
    ]
