"""What both models promise: they learn a planted taste, and only that; the same seed gives the same model."""

from dataclasses import replace

import numpy as np
import pytest

from features.encoder import ITEM_TENSORS, STATS_TENSORS, USER_TENSORS
from registry.evaluation import auc
from tests.training.conftest import SmallSamples, make_store
from training.catalogue import catalogue_of
from training.data import Prepared, prepare
from training.errors import Diverged, TooFewSamples
from training.evaluate import measure_ranking, measure_retrieval
from training.export import scorers_of
from training.fit import Fitted
from training.pipeline import TrainingConfig
from training.ranking import Ranker, train_ranker
from training.tf import seed_everything
from training.two_tower import TwoTower, train_two_tower

RANK_TENSORS = (*USER_TENSORS, *ITEM_TENSORS, *STATS_TENSORS)


@pytest.fixture(scope="module")
def data(samples: SmallSamples) -> Prepared:
    return prepare(samples, train_share=0.8)


@pytest.fixture(scope="module")
def towers(data: Prepared, quick: TrainingConfig) -> Fitted[TwoTower]:
    return train_two_tower(data, quick.two_tower, seed=1)


@pytest.fixture(scope="module")
def ranker(data: Prepared, quick: TrainingConfig) -> Fitted[Ranker]:
    return train_ranker(data, quick.ranker, seed=1)


def test_both_models_find_the_planted_taste(
    samples: SmallSamples, data: Prepared, towers: Fitted[TwoTower], ranker: Fitted[Ranker]
) -> None:
    scorers = scorers_of(towers.model, ranker.model)
    click = measure_ranking(data, scorers.rank)["click"]
    assert click.auc() > click.baseline_auc() + 0.1
    retrieval = measure_retrieval(data, catalogue_of(make_store(), samples), scorers, k=60)
    # a quarter of the catalogue; two tags of eight hold it all, popularity can only guess
    assert retrieval.recall() > retrieval.popularity_recall() + 0.1


def test_shuffled_labels_teach_nothing(samples: SmallSamples, quick: TrainingConfig) -> None:
    draw = np.random.default_rng(5)
    rows = len(samples.event_at)
    noise = samples.relabelled(click=(draw.random(rows) < 0.3).astype(np.int8), like=np.zeros(rows, np.int8))
    data = prepare(noise, train_share=0.8)
    trained = train_ranker(data, quick.ranker, seed=1)
    scores = trained.model.probabilities({name: data.tensors[name][data.test] for name in RANK_TENSORS}).numpy()
    # 800 test rows, 30 % positive: the standard error of an AUC at chance is about 0.022
    assert auc(data.labels[data.test, 0], scores[:, 0]) == pytest.approx(0.5, abs=0.07)


def test_the_same_seed_gives_the_same_model_and_another_does_not(data: Prepared, quick: TrainingConfig) -> None:
    dials = replace(quick.two_tower, max_steps=60, round_steps=20)
    one, two, other = (train_two_tower(data, dials, seed=seed).model for seed in (1, 1, 2))
    for left, right in zip(one.variables, two.variables, strict=True):
        np.testing.assert_array_equal(left.numpy(), right.numpy())
    assert not np.array_equal(one.variables[0].numpy(), other.variables[0].numpy())


def test_one_viewer_row_ranks_as_the_same_row_repeated(data: Prepared, ranker: Fitted[Ranker]) -> None:
    items = {name: data.tensors[name][:50] for name in (*ITEM_TENSORS, *STATS_TENSORS)}
    once = {name: data.tensors[name][-1:] for name in USER_TENSORS}
    repeated = {name: np.repeat(value, 50, axis=0) for name, value in once.items()}
    single = ranker.model.probabilities(items | once).numpy()
    np.testing.assert_allclose(single, ranker.model.probabilities(items | repeated).numpy(), atol=1e-6)
    assert single.shape == (50, 2)
    assert single.std() > 0


def test_towers_give_unit_vectors(data: Prepared, towers: Fitted[TwoTower]) -> None:
    for call, names in ((towers.model.user, USER_TENSORS), (towers.model.item, ITEM_TENSORS)):
        vectors = call({name: data.tensors[name][:20] for name in names}).numpy()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_an_item_nobody_has_met_lies_nearest_to_items_of_its_tag(
    samples: SmallSamples, data: Prepared, towers: Fitted[TwoTower]
) -> None:
    catalogue = catalogue_of(make_store(), samples)
    vectors = towers.model.item(catalogue.tensors(data.encoder)).numpy()
    new = list(catalogue.keys).index("new")
    nearest = np.argsort(-(vectors @ vectors[new]))[1:11]
    same = catalogue.column("category")[nearest] == catalogue.column("category")[new]
    assert same.mean() >= 0.6  # one item in eight by chance


def test_rows_absent_from_training_keep_their_first_embedding(data: Prepared, quick: TrainingConfig) -> None:
    dials = replace(quick.two_tower, max_steps=20, round_steps=20)
    unmet, met = data.encoder.vocabulary["creator"]["c3"], data.encoder.vocabulary["creator"]["c4"]
    creators = data.tensors["creator_id"]
    lean = replace(data, tensors={**data.tensors, "creator_id": np.where(creators == unmet, 0, creators)})
    trained = train_two_tower(lean, dials, seed=1).model.tables["creator"].embeddings.numpy()
    seed_everything(1)
    fresh = TwoTower(data.encoder, dials)
    fresh.user({name: data.tensors[name][:1] for name in USER_TENSORS})
    fresh.item({name: data.tensors[name][:1] for name in ITEM_TENSORS})
    first = fresh.tables["creator"].embeddings.numpy()
    np.testing.assert_array_equal(trained[unmet], first[unmet])
    assert not np.array_equal(trained[met], first[met])


def test_a_loss_that_is_not_a_number_stops_training_and_names_the_model(data: Prepared, quick: TrainingConfig) -> None:
    with pytest.raises(Diverged, match="loss of the ranker"):
        train_ranker(data, replace(quick.ranker, embedding_rate=1e30), seed=1)


def test_hardly_any_positive_is_refused(samples: SmallSamples, quick: TrainingConfig) -> None:
    click = np.zeros(len(samples.event_at), np.int8)
    click[:7] = 1
    data = prepare(samples.relabelled(click=click, like=np.zeros_like(click)), train_share=0.8)
    with pytest.raises(TooFewSamples, match="7 positive samples"):
        train_two_tower(data, quick.two_tower, seed=1)
