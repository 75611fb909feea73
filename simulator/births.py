"""How people and items enter the log: the profile and publication events, those before the start among them."""

from collections.abc import Sequence

from events import schema as s
from events.clock import utc
from simulator.behaviour import Mint
from simulator.catalogue import Thing
from simulator.config import WorldConfig
from simulator.population import DAY, LANGUAGES, Creator, Host, Viewer
from simulator.streams import stream

BLOCKING_SHARE = 0.03  # viewers who have blocked a creator before the world began


def birth_events(
    mint: Mint, config: WorldConfig, creators: Sequence[Creator], viewers: Sequence[Viewer], opening: Sequence[Thing]
) -> list[s.Event]:
    """Everybody's profile at the first moment (who joins later: then), and the catalogue of the day before the start."""
    first_at = config.start_at.timestamp() - DAY
    rng = stream(config.seed, "profiles")
    out = [
        mint(
            s.CreatorProfile, first_at, user_id=one.creator_id, language=one.language, region=LANGUAGES[one.language][1],
            joined_at=utc(round(first_at - float(rng.exponential(200.0)) * DAY)),
        )
        for one in creators
    ]  # fmt: skip
    for viewer in viewers:
        blocked = (str(rng.choice([one.creator_id for one in creators])),) if rng.random() < BLOCKING_SHARE else ()
        out.append(
            mint(
                s.ViewerProfile, max(first_at, viewer.joins_at), user_id=viewer.user_id, region=LANGUAGES[viewer.language][1],
                language=viewer.language if viewer.tells_language else None, age_band=viewer.age_band,
                gender=viewer.gender, blocked_creators=blocked,
            )
        )  # fmt: skip
    return out + [published(mint, thing) for thing in opening]


def host_born(mint: Mint, host: Host) -> s.Event:
    """The profile of a host who is new on the platform."""
    return mint(
        s.CreatorProfile, host.from_at, user_id=host.creator_id, language=host.language,
        region=LANGUAGES[host.language][1], joined_at=utc(round(host.from_at)),
    )  # fmt: skip


def published(mint: Mint, thing: Thing) -> s.Event:
    """The publication of a media item at its time."""
    title = f"{thing.category.capitalize()} {thing.content_type.lower()} {int(thing.item_id.rsplit('-', 1)[-1])}"
    return mint(
        s.MediaPublished, thing.from_at, item_id=thing.item_id, creator_id=thing.creator_id,
        content_type=thing.content_type, category=thing.category, title=title, tags=thing.tags, language=thing.language,
        duration_s=thing.duration_s,
    )  # fmt: skip
