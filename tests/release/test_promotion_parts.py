"""A canary on the real parts: the proxy assigns and logs, tables are judged, the model server's labels move.

Two small releases; viewers of the better one are made to click twice as often. Two hours of event time, half of the viewers.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from collector.lag import wait_until_stored
from events import schema as s
from events.clock import SetClock, utc
from events.kafka import KafkaWriter
from features.tables import DeltaTables
from monitoring.audit_record import AuditConfig, AuditRecord, write_record
from monitoring.canary_gate import Action
from monitoring.canary_plan import CanaryConfig
from registry.manifest import read_manifest, write_manifest
from registry.mlflow_store import MlflowRegistry
from registry.verdict import Outcome
from release.deploy import deploy
from release.promotion import Promotion
from release.promotion_parts import open_promotion
from release.promotion_plan import PromotionConfig
from release.served import labelled
from release.variant import make_variant
from serving.release_store import load_release
from serving.tf_serving import TfServing
from stack.parts import Parts
from tests.serving.small_models import write_models
from tests.serving.small_world import NOW
from tests.serving.test_real_parts import PASS, Loud, until
from tests.serving.test_real_parts import world as world  # the fixture

pytestmark = pytest.mark.parts
HOUR, DAY = 3_600.0, 86_400.0
CONFIG = PromotionConfig(
    share=0.5, baseline=0.0, ramp_share=0.5, ramp_hours=0.0, settle_s=0.0, patience_s=0.0, segments=(),
    planned={"ctr": 0.01, "completion_rate": 0.01, "session_depth": 0.01},
    gate=CanaryConfig(
        hours=2, day_hours=1, max_hours=4, mde=0.5, margin=0.5, use_cuped=False, check_fading=False, min_viewers=15,
        min_events=20,
    ),
)  # fmt: skip


class Drill:
    """Two lines on running parts, their viewers, and a promotion whose clock is set by hand."""

    def __init__(self, parts: Parts, world: Loud, folder: Path, *, begin: float) -> None:
        self.begin = begin  # no other test's impressions may lie there
        self.settings, self.world, self.folder = parts.settings, world, folder
        self.run = f"{time.time_ns():x}"
        self.viewers = [f"v{self.run}-{n}" for n in range(50)]
        self.clock, self.registry = SetClock(begin), MlflowRegistry(parts.settings.mlflow)

    def candidate(self, line: str) -> Path:
        """A release of the line with real SavedModels, registered nowhere yet."""
        version = self.registry.next_version(line)
        made = self.world.release(version, live=False)
        write_manifest(made, msgspec.structs.replace(read_manifest(made), line=line))
        write_models(made, self.world.encoder())
        target = self.folder / "candidates" / f"{line}-{version}"
        shutil.copytree(made, target)
        return target

    def promotion(self, said: list[str]) -> Promotion:
        settings = self.settings
        return open_promotion(
            settings.var, model_server=settings.model_server, mlflow=settings.mlflow, proxies=[settings.admin],
            token=settings.admin_token, time_lapse=True, who="drill", clock=self.clock, report=said.append,
        )  # fmt: skip

    def stable(self, promotion: Promotion) -> Path:
        """A release that answers everybody."""
        old = self.candidate(f"old{self.run}")
        self.registry.register(old, read_manifest(old), {})
        deploy(old, PASS, registry=self.registry, **promotion.acts.ends.traffic())
        until(lambda: self.feed("nobody", self.begin - HOUR)["release"] == old.name)
        return old

    def feed(self, viewer: str, at: float) -> dict[str, Any]:
        answer = httpx.get(
            f"{self.settings.proxy}/api/v1/content/feed", params={"user_id": viewer, "limit": 10},
            headers={"X-Livefeed-Now": str(at)}, timeout=30.0,
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def hour(self, number: int, clicks: dict[str, int]) -> set[tuple[str, str]]:
        """Everybody asks for a feed and clicks by arm, one more or less from viewer to viewer; arms and releases seen."""
        writer, seen = KafkaWriter(self.settings.kafka), set()
        for n, viewer in enumerate(self.viewers):
            at = self.begin + (number - 1) * HOUR + 30 * n
            body = self.feed(viewer, at)
            seen.add((body["arm"], body["release"]))
            for place, item in enumerate(body["items"]):
                fields = {"user_id": viewer, "item_id": item["item_id"], "request_id": body["request_id"]}
                key = f"{body['request_id']}-{place}"
                if place < clicks[body["arm"]] + n % 3 - 1:
                    writer.send(s.FeedClicked(event_id=f"c{key}", event_at=utc(at + 5), position=place, **fields))
                if item["content_type"] != "LIVE" and place < 7 + n % 2:
                    writer.send(s.MediaStarted(event_id=f"s{key}", event_at=utc(at + 6), **fields))
                    if place < 4 + n % 2:
                        writer.send(s.MediaCompleted(event_id=f"e{key}", event_at=utc(at + 60), **fields))
        writer.flush()
        writer.close()
        return seen

    def stored(self) -> None:
        wait_until_stored(self.settings.kafka, DeltaTables(self.settings.lake), timeout_s=120.0)


def test_a_better_canary_reaches_everybody_and_labels_aliases_and_traffic_say_so(
    parts: Parts, world: Loud, tmp_path: Path
) -> None:
    drill, said = Drill(parts, world, tmp_path, begin=NOW + 2 * DAY), list[str]()
    settings, server = drill.settings, TfServing(parts.settings.model_server)
    promotion = drill.promotion(said)
    old = drill.stable(promotion)
    new = drill.candidate(f"new{drill.run}")
    line, version = read_manifest(new).line, read_manifest(new).version
    one = promotion.start(new, PASS, why="a drill", config=CONFIG)
    until(
        lambda: {drill.feed(viewer, drill.begin - HOUR)["arm"] for viewer in drill.viewers[:12]} == {"canary", "stable"}
    )
    write_record(
        AuditRecord(
            line=line, month="2026-12", at=drill.begin - DAY, source="traffic", outcome=Outcome.PASS, reasons=(), sentence="",
            config=AuditConfig(),
        ),
        promotion.audits,
    )  # fmt: skip
    for number in (1, 2):
        assert drill.hour(number, {"canary": 6, "stable": 3}) == {("canary", new.name), ("stable", old.name)}
    drill.clock.set(drill.begin + 2 * HOUR)
    drill.stored()
    done = promotion.evaluate()
    assert [entry.decision.action for entry in done.decided] == [Action.CONTINUE, Action.PROMOTE]
    loaded = load_release(settings.releases / new.name)
    assert labelled(server, loaded, "stable") == {"two_tower": version, "ranker": version}
    until(
        lambda: all(isinstance(one, str) for one in labelled(server, loaded, "canary").values())
    )  # no such label: words
    assert promotion.acts.ends.proxies[0].in_use() == {"stable": new.name}
    assert [found.aliases for found in drill.registry.releases(line)] == [("champion",)]
    after = {
        (body["arm"], body["release"])
        for body in (drill.feed(v, drill.begin + 2 * HOUR + 60) for v in drill.viewers[:20])
    }
    assert after == {("stable", new.name)}
    drill.stored()
    drill.clock.set(drill.begin + 2 * HOUR + 120)
    assert promotion.evaluate().said == (
        "of 200 impressions since, 0 in the canary's arm and 200 answered by its release",
    )
    assert promotion.page(one).exists()


def test_a_worse_formula_of_the_same_models_is_rolled_back_in_under_a_minute(
    parts: Parts, world: Loud, tmp_path: Path
) -> None:
    drill, said = Drill(parts, world, tmp_path, begin=NOW + 4 * DAY), list[str]()
    settings, promotion = drill.settings, drill.promotion(said)
    old = drill.stable(promotion)
    made = make_variant(
        settings.releases / old.name, line=f"likes{drill.run}", formula={"click": -1.0}, into=tmp_path / "variants"
    )
    promotion.start(made, PASS, why="a drill", config=CONFIG)
    until(
        lambda: {drill.feed(viewer, drill.begin - HOUR)["arm"] for viewer in drill.viewers[:12]} == {"canary", "stable"}
    )
    version = read_manifest(old).version
    assert {label: one["model_version"] for label, one in versions(drill).items()} == {
        "stable": version,
        "canary": version,
    }
    assert drill.hour(1, {"canary": 2, "stable": 6}) == {("canary", made.name), ("stable", old.name)}
    drill.clock.set(drill.begin + HOUR)
    drill.stored()
    begun = time.monotonic()
    assert promotion.evaluate().action is Action.ROLLBACK
    assert time.monotonic() - begun < 60.0
    assert {label: one["release"] for label, one in versions(drill).items()} == {"stable": old.name}
    until(lambda: {drill.feed(v, drill.begin + HOUR + 60)["arm"] for v in drill.viewers[:12]} == {"stable"})


def versions(drill: Drill) -> dict[str, Any]:
    """What the proxy says it uses, by label."""
    return dict(httpx.get(f"{drill.settings.admin}/admin/versions", timeout=10.0).json())
