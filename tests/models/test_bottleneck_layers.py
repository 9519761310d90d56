"""MobileBERT against transformers, its size and its FLOPs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import MobileBertConfig, MobileBertModel

from harness.models.artifacts import load_artifact, save_artifact
from harness.models.batch import Batch
from harness.models.factory import make_model
from harness.models.flops.counting import count_flops
from harness.models.students.bottleneck import MobileBERT
from harness.models.students.bottleneck_config import BottleneckConfig

SMALL = BottleneckConfig(
    vocab_size=99,
    embedding_size=8,
    hidden_size=32,
    body_size=16,
    heads=4,
    ffn_size=24,
    ffn_count=3,
    layer_count=2,
    positions=40,
)
PLACES = {
    "embedding.word": "embeddings.word_embeddings",
    "embedding.project": "embeddings.embedding_transformation",
    "embedding.position": "embeddings.position_embeddings",
    "embedding.segment": "embeddings.token_type_embeddings",
    "embedding.norm": "embeddings.LayerNorm",
    "attention_in.bottleneck.dense": "bottleneck.input.dense",
    "attention_in.bottleneck.norm": "bottleneck.input.LayerNorm",
    "attention_in.shared.dense": "bottleneck.attention.dense",
    "attention_in.shared.norm": "bottleneck.attention.LayerNorm",
    "attention_in.query": "attention.self.query",
    "attention_in.key": "attention.self.key",
    "attention_in.value": "attention.self.value",
    "attention_out.dense": "attention.output.dense",
    "attention_out.norm": "attention.output.LayerNorm",
    "ffn.out.dense": "output.bottleneck.dense",
    "ffn.out.norm": "output.bottleneck.LayerNorm",
}


def theirs(name: str, count: int) -> str:
    """Return the name of one of our parameters in transformers, where the last feed-forward network is named apart."""
    place, _, attribute = name.rpartition(".")
    if not place.startswith("layers."):
        return f"{PLACES[place]}.{attribute}"
    _, index, inner = place.split(".", 2)
    prefix = f"encoder.layer.{index}."
    if inner in PLACES:
        return f"{prefix}{PLACES[inner]}.{attribute}"
    _, _, number, part = inner.split(".", 3)
    last = int(number) == count - 1
    inside = {
        "into": "intermediate.dense",
        "out.dense": "output.dense",
        "out.norm": "output.LayerNorm",
    }[part]
    return f"{prefix}{inside}.{attribute}" if last else f"{prefix}ffn.{number}.{inside}.{attribute}"


def pair() -> tuple[MobileBERT, MobileBertModel]:
    """Make our model with the random weights of transformers' model."""
    torch.manual_seed(0)
    oracle = MobileBertModel(
        MobileBertConfig(
            vocab_size=SMALL.vocab_size,
            hidden_size=SMALL.hidden_size,
            embedding_size=SMALL.embedding_size,
            true_hidden_size=SMALL.body_size,
            intra_bottleneck_size=SMALL.body_size,
            num_attention_heads=SMALL.heads,
            intermediate_size=SMALL.ffn_size,
            num_feedforward_networks=SMALL.ffn_count,
            num_hidden_layers=SMALL.layer_count,
            max_position_embeddings=SMALL.positions,
            classifier_activation=False,
        )
    ).eval()
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.normal_(0, 0.3)
        oracle.embeddings.word_embeddings.weight[0] = 0  # padding
    model = make_model(SMALL)
    assert isinstance(model, MobileBERT)
    source = dict(oracle.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("head."):
                parameter.copy_(source.pop(theirs(name, SMALL.ffn_count)))
    assert not source, "every weight of theirs has a place in ours"
    return model.eval(), oracle


def batch(lengths: tuple[int, ...] = (7, 12, 3)) -> Batch:
    """Make rows of these lengths, padded with 0."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 99, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()
    segments = (torch.arange(max(lengths))[None] >= 2).long().expand_as(mask) * mask
    return Batch(ids * mask, mask, segments)


def real(states: Tensor, of: Batch) -> Tensor:
    """Return the states of tokens, without padding."""
    return states[of.attention_mask.bool()]


def test_hidden_states_and_maps_are_those_of_transformers() -> None:
    model, oracle = pair()
    given = batch()
    with torch.no_grad():
        ours = model(given, hidden_states=True, attentions=True)
        other = oracle(
            input_ids=given.input_ids,
            attention_mask=given.attention_mask,
            token_type_ids=given.token_type_ids,
        )
    assert ours.hidden_states is not None
    assert ours.attentions is not None
    assert len(ours.hidden_states) == SMALL.layer_count + 1
    assert ours.attentions[0].probabilities.shape == (3, 4, 12, 12)
    last = real(ours.hidden_states[-1], given)
    assert torch.allclose(last, real(other.last_hidden_state, given), rtol=1e-4, atol=1e-5 * last.abs().max())


def test_rows_do_not_depend_on_padding_or_on_each_other() -> None:
    model, _ = pair()
    with torch.no_grad():
        model.embedding.word.weight[0] = 5.0  # the vector of padding is not 0 here, and must not be used
        together = model(batch()).logits
        one = batch()
        alone = model(
            Batch(one.input_ids[2:, :3], one.attention_mask[2:, :3], one.token_type_ids[2:, :3])
        ).logits
    assert torch.allclose(together[2:], alone, rtol=1e-4, atol=1e-4 * float(alone.abs().max()))


def test_the_published_configuration_has_the_parameters_that_its_configuration_file_says() -> None:
    """24.58 million; the paper says 25.3 (METHODS.md: recomputed from the released configuration)."""
    with torch.device("meta"):
        model = make_model(BottleneckConfig(head={"kind": "none", "outputs": 2}))
    assert sum(tensor.numel() for tensor in model.contents().values()) == pytest.approx(24.58e6, rel=0.001)


def test_flops_are_those_of_its_matrices() -> None:
    model, _ = pair()
    given = batch((9, 9))
    found = count_flops(model, given)
    assert found.uncounted == ()
    h, b, f, e, n = 32, 16, 24, 8, 9
    layer = n * (2 * h * b + 2 * b * b + h * b + b * b + 3 * 2 * b * f + b * h) + 2 * n * n * b
    assert found.total.macs == 2 * (n * 3 * e * h + 2 * layer + h * 2)
    assert sum(work.macs for work in found.components.values()) == found.total.macs


def test_its_artifact_computes_the_same(tmp_path: Path) -> None:
    model, _ = pair()
    save_artifact(model, tmp_path / "artifact")
    with torch.no_grad():
        assert torch.equal(load_artifact(tmp_path / "artifact")(batch()).logits, model(batch()).logits)
