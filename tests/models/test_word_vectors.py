"""Word-vector elimination: which vectors are kept, and the effect on the rest of the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from harness.common.errors import Code
from harness.models.artifacts import load_artifact, save_artifact
from harness.models.attention_kinds import LinformerAttention, LocalAttention, SegmentAttention, TopKAttention
from harness.models.batch import Batch
from harness.models.encoder.attention import Tokens
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.word_vectors import most_significant, significance
from harness.models.surgery import (
    factorize,
    keep_columns,
    keep_heads,
    keep_hidden,
    keep_layers,
    keep_word_vectors,
    set_attention,
    share_layers,
)
from methods.word_vector_elimination._soft_extraction import (
    SoftExtract,
    harden,
    ranks,
    retention_counts,
    soften,
)
from tests.support.encoder_models import TINY, equal_weights, logits, random_batch, random_weights
from tests.support.one_line_errors import refused

BATCH = random_batch([9, 4, 17], TINY.vocab_size, pairs=True)
INF = float("inf")


def model(kept: tuple[int | None, ...] = (6, 3), seed: int = 0) -> Encoder:
    return keep_word_vectors(random_weights(TINY, seed).eval(), kept)


def test_significance_by_hand() -> None:
    """Two heads, three tokens and one padding token."""
    one = [[0.2, 0.5, 0.3, 0.0], [0.1, 0.6, 0.3, 0.0], [0.4, 0.4, 0.2, 0.0], [0.3, 0.3, 0.4, 0.0]]
    other = [[0.0, 0.1, 0.9, 0.0], [0.0, 0.2, 0.8, 0.0], [0.0, 0.6, 0.4, 0.0], [1.0, 0.0, 0.0, 0.0]]
    present = torch.tensor([[True, True, True, False]])
    found = significance(torch.tensor([[one, other]]), present)[0]
    # The second token receives 0.5 and 0.1 from the first and 0.4 and 0.6 from the third; the third 0.3, 0.9, 0.3, 0.8.
    assert torch.allclose(found, torch.tensor([INF, 0.8, 1.15, -INF]))


def test_the_largest_stay_in_the_order_of_the_text() -> None:
    scores = torch.tensor([[INF, 0.1, 0.7, 0.3, 0.7], [INF, 0.5, -INF, -INF, -INF]])
    assert most_significant(scores, 3).tolist() == [[0, 2, 4], [0, 1, 2]]
    assert most_significant(scores, 2).tolist() == [[0, 2], [0, 1]], "of equals the earlier one"
    assert most_significant(scores, 1).tolist() == [[0], [0]]
    assert most_significant(scores, 9).tolist() == [[0, 1, 2, 3, 4]] * 2
    assert ranks(scores).tolist() == [[0, 4, 1, 3, 2], [0, 1, 2, 3, 4]]


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=1, max_size=4), st.integers(1, 9)
)
def test_who_stays_is_who_ranks_first(rows: list[list[int]], kept: int) -> None:
    scores = torch.tensor(rows).float()
    expected = [sorted(sorted(range(7), key=lambda place: (-row[place], place))[:kept]) for row in rows]
    assert most_significant(scores, kept).tolist() == expected
    assert (ranks(scores) < kept).sum(1).tolist() == [min(kept, 7)] * len(rows)


def by_hand(encoder: Encoder, batch: Batch, row: int, kept: list[int]) -> Tensor:
    """Run one row without padding, selecting its word-vectors in plain Python."""
    length = int(batch.attention_mask[row].sum())
    alone = Batch(*(tensor[row : row + 1, :length] for tensor in vars(batch).values()))
    x = encoder.embedding(alone)
    for layer, number in zip(encoder.layers, kept, strict=True):
        n = x.shape[1]
        x, attention = layer.attend(x, torch.ones(1, 1, 1, n, dtype=torch.bool), maps=True)
        received = [
            sum(float(attention.probabilities[0, :, q, t].mean()) for q in range(n) if q != t)
            for t in range(n)
        ]
        others = sorted(range(1, n), key=lambda token: -received[token])[: number - 1]
        x = layer.ffn(x[:, sorted([0, *others])])
    return encoder.head(x, torch.ones(1, x.shape[1], dtype=torch.bool))[0]


def test_eliminated_vectors_are_gone() -> None:
    eliminating, plain = model((6, 3)), random_weights(TINY, 0).eval()
    assert equal_weights(eliminating, plain)
    with torch.inference_mode():
        output = eliminating(BATCH, hidden_states=True, attentions=True)
        assert [state.shape[1] for state in output.hidden_states] == [17, 6, 3]
        assert [a.probabilities.shape[-1] for a in output.attentions] == [17, 6]
        for row in range(3):
            assert (output.logits[row] - by_hand(plain, BATCH, row, [6, 3])).abs().max() <= 1e-5
    assert (output.logits - logits(plain, BATCH)).abs().max() > 1e-4
    assert (output.logits - logits(eliminating, BATCH)).abs().max() <= 1e-5


def test_the_mask_goes_with_the_vectors() -> None:
    """If six vectors are kept, a row of four tokens keeps them all, and two of padding."""
    eliminating = model((6, 3))
    with torch.inference_mode():
        tokens, x = Tokens.of(BATCH), eliminating.embedding(BATCH)
        x, tokens, _ = eliminating.run_layer(0, x, tokens)
    assert x.shape[1] == 6
    assert tokens.present.sum(1).tolist() == [6, 4, 6]
    assert tokens.segments.shape == (3, 6)


def test_rows_that_are_shorter_lose_nothing() -> None:
    eliminating, plain = model((20, 17)), random_weights(TINY, 0).eval()
    assert torch.equal(logits(eliminating, BATCH), logits(plain, BATCH))
    short = random_batch([6, 3], TINY.vocab_size)
    assert torch.equal(logits(model((6, 6)), short), logits(plain, short))


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    more=st.integers(0, 8),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_padding_and_neighbours_do_not_matter(lengths: list[int], more: int, seed: int) -> None:
    eliminating = model((7, 4), seed % 3)
    batch = random_batch([*lengths, max(lengths) + more], TINY.vocab_size, seed)
    together = logits(eliminating, batch)
    for row, length in enumerate(lengths):
        alone = Batch(*(tensor[row : row + 1, :length] for tensor in vars(batch).values()))
        assert (logits(eliminating, alone) - together[row]).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", [LocalAttention(window=2), TopKAttention(k=3), SegmentAttention()])
def test_other_attention_tells_them_apart_too(
    kind: LocalAttention | TopKAttention | SegmentAttention,
) -> None:
    eliminating = set_attention(model((6, 3)), kind)
    together = logits(eliminating, BATCH)
    for row, length in enumerate([9, 4, 17]):
        alone = Batch(*(tensor[row : row + 1, :length] for tensor in vars(BATCH).values()))
        assert (logits(eliminating, alone) - together[row]).abs().max() <= 1e-5


def test_artifacts_and_surgery_carry_them(tmp_path: Path) -> None:
    eliminating = model((6, 3))
    save_artifact(eliminating, tmp_path / "artifact")
    before = logits(eliminating, BATCH)
    assert torch.equal(logits(load_artifact(tmp_path / "artifact"), BATCH), before)
    for same in (
        keep_layers(eliminating, [0, 1]),
        keep_heads(eliminating, [range(2)] * 2),
        keep_columns(eliminating, [range(40)] * 2),
        keep_hidden(eliminating, range(24)),
        factorize(eliminating, {"query": 24, "ffn_in": 24}),
    ):
        assert [layer.kept for layer in same.config.layers] == [6, 3]
        assert (logits(same, BATCH) - before).abs().max() <= 1e-5
    bare = keep_heads(eliminating, [[0], []])
    assert [layer.kept for layer in bare.config.layers] == [6, None], "no attention, no significance"
    assert torch.isfinite(logits(bare, BATCH)).all()


def test_layers_that_share_weights_may_keep_other_numbers() -> None:
    alike = TINY.with_layers(TINY.layers[:1] * 2)
    shared = share_layers(keep_word_vectors(random_weights(alike, 0).eval(), (6, 3)), [None, 0])
    assert [layer.kept for layer in shared.config.layers] == [6, 3]
    assert shared.layers[0] is shared.layers[1]
    untied = random_weights(alike, 1).eval()
    untied.load_state_dict(shared.state_dict())
    assert torch.equal(logits(keep_word_vectors(untied, (6, 3)), BATCH), logits(shared, BATCH))
    thin = factorize(shared, {"query": 3})
    assert [layer.kept for layer in thin.config.layers] == [6, 3]


def test_what_cannot_be_eliminated() -> None:
    whole = random_weights(TINY, 0)
    with refused(Code.WRONG_SHAPE, "grow"):
        keep_word_vectors(whole, (3, 6))
    with refused(Code.WRONG_SHAPE, "[1, 0]", "grow"):
        keep_layers(model((6, 3)), [1, 0])
    with refused(Code.OUT_OF_RANGE):
        keep_word_vectors(whole, (6, 0))
    with refused(Code.INCOMPLETE, "1 numbers", "2 layers"):
        keep_word_vectors(whole, (6,))
    with refused(Code.WRONG_SHAPE, "spans"):
        keep_word_vectors(random_weights(TINY.with_head("span", 2), 0), (6, 3))
    with refused(Code.WRONG_SHAPE, "layer 0"):
        keep_word_vectors(set_attention(whole, LinformerAttention(projected=4, length=32)), (6, 3))
    bare = TINY.layers[0].model_copy(update={"heads": 0, "kept": 3})
    with pytest.raises(ValidationError, match=r"layer 0 .* word-vector"):
        TINY.with_layers((bare,))


def test_soft_extraction_multiplies_by_the_weight_of_the_rank() -> None:
    plain = random_weights(TINY, 0).eval()
    layer, x = plain.layers[0], torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(3))
    mask = (torch.arange(7) < torch.tensor([7, 5])[:, None])[:, None, None, :]
    soft = SoftExtract(layer, 20)
    with torch.no_grad():
        assert torch.allclose(soft(x, mask)[0], layer(x, mask)[0], atol=1e-5), (
            "ones change nothing but how attention is computed"
        )
        soft.retention[:7] = torch.tensor([1.0, 0.9, 0.8, 0.5, 0.4, 0.1, 0.0])
        attended, attention = layer.attend(x, mask, maps=True)
        scores = significance(attention.probabilities, mask[:, 0, 0])
        expected = attended.clone()
        for row in range(2):
            for rank, place in enumerate(sorted(range(7), key=lambda p: -float(scores[row, p]))):
                expected[row, place] *= soft.retention[rank]
        assert (soft(x, mask)[0] - layer.ffn(expected)).abs().max() <= 1e-6
    soft(x, mask)[0].square().sum().backward()
    assert soft.retention.grad[:7].abs().min() > 0
    assert soft.retention.grad[7:].abs().max() == 0, "no row has so many tokens"


def test_softening_is_undone() -> None:
    whole = random_weights(TINY, 0).eval()
    layers, before = list(whole.layers), logits(whole, BATCH)
    soft = soften(whole, 32)
    assert list(soft) == [0, 1]
    assert [name for name, _ in whole.named_parameters() if name.endswith(".retention")] == [
        "layers.0.retention",
        "layers.1.retention",
    ]
    assert (logits(whole, BATCH) - before).abs().max() <= 1e-5
    harden(whole, soft)
    assert all(now is then for now, then in zip(whole.layers, layers, strict=True))


def test_counts_are_sums_that_never_grow_nor_vanish() -> None:
    weights = [torch.full((8,), 0.6), torch.full((8,), 0.7), torch.full((8,), 0.3), torch.full((8,), 0.01)]
    assert retention_counts(weights) == [4, 4, 2, 1]
