"""hash-embeddings: pool and importance of each row, fitted to a table."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.compression.pruning.vocabulary import relative_error, token_counts
from harness.conformance.tiny import tiny_encoder
from harness.models.config import HashedWords
from harness.models.embeddings import HashedEmbedding
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from methods.embedding_compression.hash_embeddings import fit_buckets
from tests.support.tiny_stages import built, context, draw


def rows(places: Tensor, vectors: Tensor, importance: Tensor) -> Tensor:
    """The rows that come back: the vectors of a row's buckets, by their importance."""
    return (importance[:, :, None] * vectors[places]).sum(1)


def test_one_hash_gives_each_bucket_s_best_direction() -> None:
    """Two buckets of one hash: of rows that are multiples of one direction nothing is lost."""
    directions = torch.tensor([[3.0, 4.0], [-1.0, 1.0]])
    places = torch.tensor([[0], [0], [1], [1], [1]])
    table = torch.tensor([[1.0], [2], [1], [-3], [0.5]]) * directions[places[:, 0]]
    vectors, importance = fit_buckets(table, places, 2, rounds=8)
    assert torch.allclose(importance * vectors[places[:, 0]], table, atol=0.02)


def test_the_first_buckets_are_weighted_means() -> None:
    """With p = 1 and one hash a bucket is the mean of its rows; p is then each row's projection on it."""
    places = torch.tensor([[0], [0], [1]])
    table = torch.tensor([[2.0, 0], [0, 2], [5, 5]])
    vectors, importance = fit_buckets(table, places, 2, rounds=1)
    assert torch.allclose(vectors, torch.tensor([[1.0, 1], [5, 5]]), atol=0.01)
    assert torch.allclose(importance, torch.ones(3, 1), atol=0.01)
    weighted, importance = fit_buckets(table, places, 2, 1, torch.tensor([3.0, 1, 1]))
    assert torch.allclose(weighted[0], torch.tensor([1.5, 0.5]), atol=0.01)
    assert torch.allclose(importance[:, 0], torch.tensor([3 / 2.5, 1 / 2.5, 1]), atol=0.01)


def test_a_table_that_is_hashed_comes_back() -> None:
    module = HashedEmbedding(500, 12, HashedWords(buckets=40, hashes=2))
    places = module.places(torch.arange(500))
    pool, p = draw(40, 12), draw(500, 2, seed=1).abs() + 0.5
    table = (p[:, :, None] * pool[places]).sum(1)
    vectors, importance = fit_buckets(table, places, 40, rounds=60)
    found = rows(places, vectors, importance)
    assert (found - table).square().sum() < 0.01 * (table - table.mean(0)).square().sum()


def test_more_rounds_come_nearer_and_weights_favour_their_tokens() -> None:
    table, places = (
        draw(800, 16),
        HashedEmbedding(1, 1, HashedWords(buckets=100, hashes=2)).places(torch.arange(800)),
    )
    weights = torch.where(torch.arange(800) < 60, 50.0, 1.0)

    def errors(rounds: int, chosen: Tensor | None = None) -> Tensor:
        return (table - rows(places, *fit_buckets(table, places, 100, rounds, chosen))).square().sum(1)

    assert errors(1).sum() > errors(4).sum() > errors(12).sum()
    assert errors(4, weights)[:60].sum() < 0.5 * errors(4)[:60].sum()


def test_the_student_computes_the_fit_and_trains_pool_and_weights() -> None:
    teacher = tiny_encoder().eval()
    recipe = "hash-embeddings:buckets=128,rounds=2"
    (stage,) = Recipe.parse(recipe).stages
    after, (record,) = run_stage(stage, teacher, context(teacher))
    before = built(recipe, teacher)
    assert after.config.words == HashedWords(buckets=128, hashes=2)
    assert not torch.equal(before.embedding.word.weight, after.embedding.word.weight)
    assert not torch.equal(before.embedding.word.importance, after.embedding.word.importance)
    counts = token_counts(teacher, context(teacher)) + 1
    places = before.embedding.word.places(torch.arange(2048))
    vectors, importance = fit_buckets(teacher.embedding.word.weight.data, places, 128, 2, counts)
    assert torch.equal(before.embedding.word.weight, vectors)
    fitted = rows(places, vectors, importance).double()
    table = teacher.embedding.word.weight.data.double()
    share = (counts / counts.sum())[:, None]
    mean = (share * table).sum(0)
    by_frequency = float((share * (fitted - table) ** 2).sum() / (share * (table - mean) ** 2).sum())
    assert record.figures["the same by frequency in the training set"] == pytest.approx(
        by_frequency, rel=1e-4
    )
    assert by_frequency < record.figures["squared error of word embeddings / their variance"]
    assert relative_error(teacher, teacher) == 0
    assert not torch.equal(built(f"{recipe},weighting=equal", teacher).embedding.word.weight, vectors)
