"""The offline gate: what passes, what fails, and that not knowing never passes."""

import numpy as np
import pytest

from monitoring.gate import GateConfig, judge_offline
from registry.evaluation import Evaluation, RankingRows, RetrievalRows
from registry.verdict import Outcome, Reason, Verdict, read_verdict, write_verdict

RNG = np.random.default_rng(0)
VIEWERS = np.array([f"u{i}" for i in range(200)])


def retrieval(hits: float, popular: float, *, viewers: int = 200) -> RetrievalRows:
    positives = np.full(viewers, 10)
    return RetrievalRows(
        user=VIEWERS[:viewers],
        warm=np.ones(viewers, bool),
        positives=positives,
        hits=RNG.binomial(positives, hits),
        popularity_hits=RNG.binomial(positives, popular),
    )


def ranking(skill: float, *, baseline: float, rows: int = 4000) -> RankingRows:
    y = RNG.integers(0, 2, rows)
    noise = RNG.normal(size=(2, rows))
    return RankingRows(
        y=y, score=skill * y + noise[0], baseline=baseline * y + noise[1], user=RNG.choice(VIEWERS, rows)
    )


def judged(hits: RetrievalRows, **objectives: RankingRows) -> Verdict:
    return judge_offline(Evaluation(hits, objectives), seed=1, config=GateConfig(resamples=300))


def test_a_candidate_better_on_both_passes_with_its_numbers() -> None:
    verdict = judged(retrieval(0.5, 0.3), click=ranking(1.5, baseline=0.5))
    assert verdict.passed
    assert verdict.reasons == (Reason.BEATS_BASELINE,)
    recall, auc = verdict.evidence
    assert (recall.metric, auc.metric) == ("recall_at_100", "auc_click")
    assert recall.candidate == pytest.approx(0.5, abs=0.03)
    assert recall.baseline == pytest.approx(0.3, abs=0.03)
    assert recall.low is not None and recall.high is not None
    assert 0 < recall.low < recall.candidate - recall.baseline < recall.high
    assert recall.n == 200


def test_retrieval_like_popularity_is_undecided_not_passed() -> None:
    verdict = judged(retrieval(0.3, 0.3), click=ranking(1.5, baseline=0.5))
    assert (verdict.outcome, verdict.reasons) == (Outcome.UNDECIDED, (Reason.INTERVAL_COVERS_ZERO,))


def test_retrieval_below_popularity_fails_even_when_the_ranker_is_good() -> None:
    verdict = judged(retrieval(0.2, 0.4), click=ranking(1.5, baseline=0.5))
    assert (verdict.outcome, verdict.reasons) == (Outcome.FAIL, (Reason.WORSE_THAN_BASELINE,))


def test_a_ranker_below_its_baseline_fails() -> None:
    assert judged(retrieval(0.5, 0.3), click=ranking(0.2, baseline=1.5)).outcome is Outcome.FAIL


def test_a_ranker_like_its_baseline_passes_when_the_data_show_it_is_not_worse() -> None:
    alike = ranking(1.0, baseline=1.0, rows=40_000)
    assert judged(retrieval(0.5, 0.3), click=alike).passed


def test_a_ranker_like_its_baseline_on_little_data_is_undecided() -> None:
    verdict = judged(retrieval(0.5, 0.3), click=ranking(1.0, baseline=1.0, rows=300))
    assert (verdict.outcome, verdict.reasons) == (Outcome.UNDECIDED, (Reason.INTERVAL_COVERS_ZERO,))


def test_where_click_is_constant_the_other_objectives_decide() -> None:
    constant = ranking(1.0, baseline=1.0)
    always = RankingRows(y=np.ones(4000), score=constant.score, baseline=constant.baseline, user=constant.user)
    verdict = judged(retrieval(0.5, 0.3), click=always, like=ranking(1.5, baseline=0.5))
    assert verdict.passed
    assert [row.metric for row in verdict.evidence] == ["recall_at_100", "auc_like"]


def test_no_viewers_no_rows_and_no_objective_are_undecided_for_want_of_data() -> None:
    empty = np.zeros(0)
    nobody = RetrievalRows(user=empty, warm=empty, positives=empty, hits=empty, popularity_hits=empty)
    assert judged(nobody, click=ranking(1.5, baseline=0.5)).reasons == (Reason.NO_DATA,)
    verdict = judged(retrieval(0.5, 0.3))
    assert (verdict.outcome, verdict.reasons) == (Outcome.UNDECIDED, (Reason.NO_DATA,))


def test_a_score_that_is_not_a_number_is_undecided() -> None:
    rows = ranking(1.5, baseline=0.5)
    rows.score[7] = np.nan
    verdict = judged(retrieval(0.5, 0.3), click=rows)
    assert (verdict.outcome, verdict.reasons) == (Outcome.UNDECIDED, (Reason.NOT_A_NUMBER,))
    assert verdict.evidence[1].candidate is None


def test_a_handful_of_viewers_decides_nothing() -> None:
    verdict = judged(retrieval(0.9, 0.1, viewers=12), click=ranking(1.5, baseline=0.5))
    assert (verdict.outcome, verdict.reasons) == (Outcome.UNDECIDED, (Reason.TOO_FEW_VIEWERS,))


def test_a_model_no_better_than_popularity_rarely_passes() -> None:
    passed = 0
    ranker = ranking(1.5, baseline=0.5)
    for _ in range(60):
        passed += judged(retrieval(0.3, 0.3), click=ranker).passed
    assert passed <= 6  # 2.5 % expected: 1.5 of 60; above 6 has odds of one in a thousand


def test_a_verdict_survives_its_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    verdict = judged(retrieval(0.5, 0.3), click=ranking(1.5, baseline=0.5))
    write_verdict(tmp_path, verdict)
    assert read_verdict(tmp_path) == verdict
