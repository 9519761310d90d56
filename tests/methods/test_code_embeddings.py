"""code-embeddings: the books by hand and by least squares, and the codes that are learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.conformance.tiny import tiny_encoder
from harness.models.config import CodedWords
from methods.embedding_compression.code_embeddings import fit_books, learn_codes
from tests.support.tiny_stages import built, draw


def sums(codes: Tensor, books: Tensor) -> Tensor:
    """The rows that the codes stand for: an entry of each book, added up."""
    return torch.stack([books[m][codes[:, m].long()] for m in range(books.shape[0])]).sum(0)


def error_of(table: Tensor, codes: Tensor, books: Tensor) -> float:
    """The squared error over the table's variance."""
    return float((table - sums(codes, books)).square().sum() / (table - table.mean(0)).square().sum())


def test_one_book_is_the_mean_of_each_code_s_rows() -> None:
    table = torch.tensor([[0.0, 4], [2, 0], [4, 4], [6, 0], [8, 8]])
    codes = torch.tensor([[0], [1], [0], [1], [3]], dtype=torch.uint8)
    book = fit_books(table, codes, 4)[0]
    assert torch.allclose(book, torch.tensor([[2.0, 4], [4, 0], [0, 0], [8, 8]]), atol=0.01)
    weighted = fit_books(table, codes, 4, torch.tensor([3.0, 1, 1, 1, 1]))[0]
    assert torch.allclose(weighted[0], torch.tensor([1.0, 4]), atol=0.01)


@pytest.mark.parametrize("weighted", [False, True])
def test_several_books_are_the_least_squares_solution(weighted: bool) -> None:
    table = draw(60, 5).double()
    codes = torch.randint(0, 4, (60, 3), generator=torch.Generator().manual_seed(1))
    weights = torch.arange(1.0, 61) if weighted else torch.ones(60)
    chosen = torch.cat([F.one_hot(codes[:, m], 4) for m in range(3)], 1).double().numpy()
    root = weights.double().sqrt().numpy()[:, None]
    best = np.linalg.lstsq(root * chosen, root * table.numpy(), rcond=None)[0]
    least = float(((root * (table.numpy() - chosen @ best)) ** 2).sum())
    books = fit_books(table, codes, 4, weights if weighted else None)
    found = float((weights[:, None] * (table - sums(codes, books)).square()).sum())
    assert least <= found * (1 + 1e-9)
    assert found < least * 1.001


def test_codes_of_a_table_that_is_a_sum_are_found() -> None:
    """Rows that really are sums of two books of four entries: the sums come back, up to a little of the variance."""
    books = draw(2, 4, 16)
    hidden = torch.randint(0, 4, (400, 2), generator=torch.Generator().manual_seed(1))
    table = sums(hidden, books)
    codes, found = learn_codes(table, 4, 8, 800, torch.Generator().manual_seed(2))
    assert (codes.dtype, codes.shape, found.shape) == (torch.uint8, (400, 4), (4, 8, 16))
    assert int(codes.max()) < 8
    assert error_of(table, codes, found) < 0.02


def test_learned_codes_are_far_better_than_random_ones_with_their_best_books() -> None:
    """On rows of correlated columns, as a trained table's are; 32 bits a row of 24 weights."""
    table = draw(1500, 6) @ draw(6, 24, seed=1) + 0.3 * draw(1500, 24, seed=2)
    codes, books = learn_codes(table, 8, 16, 600, torch.Generator().manual_seed(0))
    random = torch.randint(0, 16, (1500, 8), generator=torch.Generator().manual_seed(3))
    learned, chance = error_of(table, codes, books), error_of(table, random, fit_books(table, random, 16))
    assert chance > 0.85  # 121 free books of 1,500 rows explain 8 % of any table
    assert learned < 0.35 * chance
    few, few_books = learn_codes(table, 8, 16, 5, torch.Generator().manual_seed(0))
    assert learned < error_of(table, few, few_books)


def test_codes_depend_on_the_generator_alone() -> None:
    table = draw(300, 8)
    torch.manual_seed(1)
    one = learn_codes(table, 3, 8, 30, torch.Generator().manual_seed(5))
    torch.manual_seed(2)
    other = learn_codes(table, 3, 8, 30, torch.Generator().manual_seed(5))
    third = learn_codes(table, 3, 8, 30, torch.Generator().manual_seed(6))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[0], third[0])


def test_frequent_rows_are_nearer_where_they_are_drawn_more_often() -> None:
    table = draw(1000, 16)
    weights = torch.where(torch.arange(1000) < 30, 500.0, 1.0)
    errors = []
    for chosen in (None, weights):
        codes, books = learn_codes(table, 4, 8, 300, torch.Generator().manual_seed(0), chosen)
        errors.append(float((table - sums(codes, books))[:30].square().sum()))
    assert errors[1] < 0.7 * errors[0]


def test_the_student_s_codes_stay_and_its_books_are_trained() -> None:
    teacher = tiny_encoder().eval()
    recipe = "code-embeddings:books=4,entries=8,steps=30"
    before, after = built(recipe, teacher), built(recipe, teacher, training=True)
    assert after.config.words == CodedWords(books=4, entries=8)
    assert str(after.storage.codecs["embedding.word.codes"]) == "codes(3)+pack(3)"
    one, other = before.embedding.word, after.embedding.word
    assert torch.equal(one.codes, other.codes)
    assert not torch.equal(one.weight, other.weight)
    alike = built(f"{recipe},sampling=uniform", teacher)
    assert not torch.equal(alike.embedding.word.codes, one.codes)
