"""The check before a canary: what it stops, what it lets pass, and everything that it refuses to decide."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from monitoring.errors import BadPlaces
from monitoring.off_policy import snips
from monitoring.off_policy_checks import broken, known_sums, overlap
from monitoring.off_policy_gate import OffPolicyConfig, OffPolicyReason, OffPolicyVerdict, judge
from monitoring.off_policy_log import Floats, LoggedPlaces, Predicted, Support
from registry.verdict import Outcome
from tests.monitoring.off_policy_stories import EPSILON, N, log, with_propensity

GOOD, BAD, ALIKE = [0.2, 0.4, 0.2, 0.2, 0.2], [0.4, 0.1, 0.4, 0.4, 0.4], [0.3] * 5


def reasons(*logs: LoggedPlaces, config: OffPolicyConfig | None = None) -> tuple[Outcome, tuple[OffPolicyReason, ...]]:
    named = {f"reward {number}": one for number, one in enumerate(logs)}
    found = judge(named, config=config or OffPolicyConfig())
    return found.outcome, found.reasons


def undecided(*why: OffPolicyReason) -> tuple[Outcome, tuple[OffPolicyReason, ...]]:
    return Outcome.UNDECIDED, why


def test_a_candidate_that_is_clearly_worse_is_stopped() -> None:
    found = judge({"click": log(BAD, candidate=1, viewers=1_500)})
    assert (found.outcome, found.reasons) == (Outcome.FAIL, (OffPolicyReason.CLEARLY_WORSE,))
    assert found.stops
    # by merit 0.6 of the places: 0.6 (0.1 - 0.4)
    assert found.judged[0].difference == pytest.approx(-0.18, abs=0.05)


def test_a_better_one_passes_and_the_verdict_says_no_more_than_that_nothing_speaks_against_it() -> None:
    found = judge({"click": log(GOOD, candidate=1, viewers=1_500)})
    assert (found.outcome, found.reasons) == (Outcome.PASS, (OffPolicyReason.NOT_CLEARLY_WORSE,))
    assert not found.stops
    assert found.texts[0].startswith("nothing speaks against a canary: click +0.")


def test_the_doubly_robust_estimate_decides_where_rewards_were_predicted() -> None:
    found = judge({"click": log(GOOD, candidate=1, viewers=1_500, model=[0.3] * 5)})
    assert [one.method for one in found.judged] == ["doubly_robust", "snips"]
    assert [one.method for one in judge({"click": log(GOOD, candidate=1, viewers=1_500)}).judged] == ["snips"]


def test_one_reward_that_is_clearly_worse_stops_whatever_the_others_say() -> None:
    clicks = log(GOOD, candidate=1, viewers=3_000)
    completions = log(BAD, candidate=1, viewers=3_000)  # the same draws
    assert reasons(clicks, completions) == (Outcome.FAIL, (OffPolicyReason.CLEARLY_WORSE,))
    rare = replace(clicks, reward=np.where(np.arange(len(clicks)) < 40, clicks.reward, 0.0))
    assert reasons(rare, completions) == (Outcome.FAIL, (OffPolicyReason.CLEARLY_WORSE,))
    assert reasons(clicks, rare) == undecided(OffPolicyReason.SMALL_SAMPLE)


def test_two_rewards_share_the_level() -> None:
    places = log(GOOD, candidate=1, viewers=1_500)
    found = judge({"click": places, "completion": places}).judged[0]
    assert (found.low, found.high) == pytest.approx(snips(places).difference.bounds(0.975))


def test_rewards_of_different_places_are_refused() -> None:
    with pytest.raises(BadPlaces, match="not the same places"):
        judge({"click": log(GOOD, candidate=1, viewers=20), "completion": log(GOOD, candidate=1, viewers=20, seed=2)})


def test_no_log_and_no_places_are_no_data() -> None:
    assert judge({}).reasons == (OffPolicyReason.NO_DATA,)
    none = log(GOOD, candidate=1, viewers=5)
    assert reasons(none.where(np.zeros(len(none), bool))) == undecided(OffPolicyReason.NO_DATA)


def missing(share: float) -> LoggedPlaces:
    places = log(GOOD, candidate=1, viewers=1_500)
    return replace(places, propensity=np.where(np.arange(len(places)) < share * len(places), np.nan, places.propensity))


def test_missing_propensities_are_left_out_when_few_and_refused_when_many() -> None:
    few = judge({"click": missing(0.005)})
    assert (few.outcome, few.missing) == (Outcome.PASS, 30)
    assert few.overlap is not None and few.overlap.places == 5_970
    assert reasons(missing(0.02)) == undecided(OffPolicyReason.PROPENSITY_MISSING)
    assert reasons(missing(1.0)) == undecided(OffPolicyReason.NO_DATA)


@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.01, np.inf])
def test_a_propensity_that_is_no_probability_is_refused(wrong: float) -> None:
    places = log(GOOD, candidate=1, viewers=1_500)
    propensity = places.propensity.copy()
    propensity[17] = wrong
    assert reasons(replace(places, propensity=propensity)) == undecided(OffPolicyReason.PROPENSITY_IMPOSSIBLE)


def test_without_pools_nothing_can_be_checked() -> None:
    places = replace(log(BAD, candidate=1, viewers=1_500), support=None)
    assert reasons(places) == undecided(OffPolicyReason.SUPPORT_UNKNOWN)


def test_what_is_not_a_number_is_refused() -> None:
    places = log(BAD, candidate=1, viewers=1_500)
    holes = np.where(np.arange(len(places)) == 5, np.nan, places.reward)
    assert reasons(replace(places, reward=holes)) == undecided(OffPolicyReason.NOT_A_NUMBER)
    assert reasons(replace(places, target=places.target * 2)) == undecided(OffPolicyReason.NOT_A_NUMBER)
    guess = Predicted(places.reward, places.reward, places.reward * np.nan)
    assert reasons(replace(places, predicted=guess)) == undecided(OffPolicyReason.NOT_A_NUMBER)


def all_one(places: LoggedPlaces) -> Floats:
    return np.ones(len(places))


def halved(places: LoggedPlaces) -> Floats:
    return places.propensity / 2


def shuffled(places: LoggedPlaces) -> Floats:
    return np.random.default_rng(2).permutation(places.propensity)


def swapped(places: LoggedPlaces) -> Floats:
    return np.where(places.propensity > 0.5, EPSILON, (1 - EPSILON) / N)


def a_fifth_more(places: LoggedPlaces) -> Floats:
    return np.where(places.propensity > 0.5, 1 - 1.2 * EPSILON, 1.2 * EPSILON / N)


@pytest.mark.parametrize("fault", [all_one, halved, shuffled, swapped, a_fifth_more])
def test_broken_propensities_are_noticed_though_the_incumbent_is_believed_to_have_them(
    fault: Callable[[LoggedPlaces], Floats],
) -> None:
    places = log(BAD, candidate=1, viewers=1_500)
    found = judge({"click": with_propensity(places, fault(places))})
    assert (found.outcome, found.reasons) == undecided(OffPolicyReason.PROPENSITY_BROKEN)
    assert not found.judged  # no estimate that could be believed by mistake


def test_a_propensity_that_is_not_the_incumbents_is_noticed_by_itself() -> None:
    places = log(ALIKE, candidate=1, viewers=600)
    late = replace(places, incumbent=places.incumbent * 0.98)
    assert [one.name for one in broken(known_sums(late), alpha=0.001)] == ["incumbent"]


def test_draws_that_lean_to_the_pools_top_are_noticed() -> None:
    places = log(ALIKE, candidate=1, viewers=1_500)
    assert places.support is not None and places.support.rank is not None
    leaning = replace(places, support=replace(places.support, rank=places.support.rank**1.3))
    assert [one.name for one in broken(known_sums(leaning), alpha=0.001)] == ["rank"]


def test_a_viewer_repeated_is_no_more_evidence_against_the_propensities() -> None:
    places = log(ALIKE, candidate=1, viewers=400, each=1)
    once = known_sums(places)
    twice = known_sums(places.where(np.repeat(np.arange(400), 2)))
    assert [one.z for one in twice] == pytest.approx([one.z for one in once])


def test_right_propensities_are_called_broken_about_as_often_as_alpha_says() -> None:
    alarms = sum(bool(broken(known_sums(log(ALIKE, candidate=1, viewers=400, seed=s)), alpha=0.05)) for s in range(300))
    assert 0.01 <= alarms / 300 <= 0.08


def test_the_known_sums_are_zero_over_every_choice() -> None:
    # one place: item 0 by merit, 1 to 4 drawn, the candidate puts 3; each choice as often as its odds say
    odds = np.array([1 - EPSILON] + [EPSILON / N] * N)
    target = np.array([0.0, 0.1, 0.1, 0.1 + 1 - EPSILON, 0.1])
    total: defaultdict[str, float] = defaultdict(float)
    for item in range(N + 1):
        support = Support(np.array([N + 1]), np.array([item > 0]), np.ones(1), np.ones(1), np.array([(item - 0.5) / N]))
        mine = odds[[item]]
        for found in known_sums(LoggedPlaces(np.zeros(1), np.zeros(1), mine, mine, target[[item]], mine, support)):
            total[found.name] += float(mine[0]) * found.mean
    assert dict(total) == pytest.approx(
        dict.fromkeys(("by_merit", "choices", "target", "incumbent", "rank"), 0.0), abs=1e-12
    )


def test_a_candidate_whose_choices_the_log_could_not_show_is_not_judged() -> None:
    places = log(BAD, candidate=1, viewers=1_500)
    assert places.support is not None
    half = np.arange(len(places)) % 2 == 0
    outside = replace(
        places, target=np.where(half, places.target, np.where(places.support.drawn, EPSILON / N, 0.0)),
        support=replace(places.support, covered=np.where(half, 1.0, EPSILON)),
    )  # fmt: skip
    assert reasons(outside) == undecided(OffPolicyReason.LOW_OVERLAP)


def test_a_candidate_that_chooses_the_same_everywhere_was_not_compared() -> None:
    found = judge({"click": log(BAD, candidate=0, viewers=1_500)})
    assert (found.outcome, found.reasons) == undecided(OffPolicyReason.SAME_CHOICES)


def test_few_viewers_and_few_rows_are_not_judged_by() -> None:
    assert reasons(log(BAD, candidate=1, viewers=400)) == undecided(OffPolicyReason.TOO_FEW_VIEWERS)
    few = log(BAD, candidate=1, viewers=600, each=1)  # about 60 of them show the candidate's choice
    assert reasons(few) == undecided(OffPolicyReason.SMALL_SAMPLE)


def test_a_log_that_could_hide_the_loss_of_half_is_no_pass() -> None:
    places = log(ALIKE, candidate=1, viewers=500, each=3)
    assert reasons(places, config=OffPolicyConfig(largest_loss=0.1)) == undecided(OffPolicyReason.TOO_WIDE)
    assert reasons(places) == (Outcome.PASS, (OffPolicyReason.NOT_CLEARLY_WORSE,))


def test_two_methods_that_disagree_are_not_believed() -> None:
    places = log(ALIKE, candidate=1, viewers=1_500)
    constant = np.full(len(places), 0.3)
    promised = replace(
        places, predicted=Predicted(constant, constant + 0.2, constant)
    )  # the pool was predicted wrongly
    assert reasons(promised) == undecided(OffPolicyReason.ESTIMATES_DISAGREE)


def test_rows_that_speak_for_the_difference_are_counted() -> None:
    # ten places: eight show item 0 (weight 0), two the candidate's (0.7 / 0.1 = 7)
    places = log(ALIKE, candidate=1, viewers=1_000)
    assert places.support is not None
    mine = np.flatnonzero(places.target > 0.5)[:2]
    other = np.flatnonzero(places.target == 0.0)[:8]
    found = overlap(places.where(np.r_[mine, other]))
    assert found.ess_difference == pytest.approx(2.0)
    assert found.largest_weight == pytest.approx(7.0)
    assert found.ess == pytest.approx(2.0)
    many, few = np.flatnonzero(places.target > 0.5)[:9], np.flatnonzero(places.target == 0.0)[:3]
    assert overlap(places.where(np.r_[many, few])).ess_difference == pytest.approx(3.0)


def test_equal_worth_is_stopped_no_more_often_than_the_level_says() -> None:
    stopped = sum(judge({"click": log(ALIKE, candidate=1, viewers=600, seed=s)}).stops for s in range(300))
    assert stopped / 300 <= 0.05


def test_a_verdict_is_written_as_json_whole() -> None:
    found = judge({"click": log(GOOD, candidate=1, viewers=1_500, model=[0.3] * 5)})
    assert msgspec.json.decode(msgspec.json.encode(found), type=OffPolicyVerdict) == found
