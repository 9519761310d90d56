"""Heads and ramps that read standardised states: the function stays, only the training changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.compression.encoded_rows import encode_examples
from harness.compression.standardizing import Standardized, first_map, fold, standardized, unfold
from harness.models.batch import Batch
from harness.models.config import EncoderConfig, ExitRamp
from harness.models.encoder.encoder import Encoder
from harness.models.tokenizer import Tokenizer
from harness.tasks import load_task

CONFIG = EncoderConfig.bert(3, 24, heads=2, ffn=32, vocab_size=1000, positions=64)


def encoder(config: EncoderConfig, tokenizer: Tokenizer) -> Encoder:
    return Encoder(config, tokenizer).initialize(torch.Generator().manual_seed(0)).eval()


def logits(model: Encoder, batch: Batch) -> list[Tensor]:
    with torch.no_grad():
        output = model(batch)
    return [output.logits, *output.exits.values()]


def test_a_map_of_standardised_states_is_folded_exactly() -> None:
    generator = torch.Generator().manual_seed(1)
    linear = nn.Linear(8, 3).double()
    x = torch.randn(50, 8, generator=generator, dtype=torch.double) * 0.01 + 5
    mean, deviation = x.mean(0), x.std(0)
    wanted = linear((x - mean) / deviation)
    before = linear.weight.detach().clone()
    fold(linear, mean, deviation)
    torch.testing.assert_close(linear(x), wanted, rtol=1e-9, atol=1e-9)
    unfold(linear, mean, deviation)
    torch.testing.assert_close(linear.weight.detach(), before)


@pytest.mark.parametrize("pooling", ["first-token", "mean"])
@pytest.mark.parametrize("ramp", [None, "pooler", "linear", "student"])
def test_the_function_stays_and_the_reader_sees_standardised_vectors(
    pooling: str, ramp: ExitRamp | None, tiny_tokenizer: Tokenizer
) -> None:
    config = CONFIG.model_copy(update={"pooling": pooling})
    model = encoder(config if ramp is None else config.with_exits(ramp, None), tiny_tokenizer)
    view = load_task("toy-sentiment").training_view()
    rows = encode_examples(view.examples[:80], model, view.kind, 32, "toy")
    batch = rows.batch(range(80))
    before = logits(model, batch)
    seen: list[Tensor] = []
    with standardized(model, rows):
        readers = [*model.exits.values()] + [model.head] * (ramp != "linear")
        assert all(isinstance(reader.standard, Standardized) for reader in readers)
        hooks = [
            first_map(reader).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
            for reader in readers
        ]
        for one, other in zip(logits(model, batch), before, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
        for hook in hooks:
            hook.remove()
    for vectors in seen:
        flat = vectors.flatten(0, -2)
        if ramp != "student":  # its statistics are over tokens without padding's share
            torch.testing.assert_close(flat.mean(0), torch.zeros(24), atol=1e-3, rtol=0)
    assert all(isinstance(reader.standard, nn.Identity) for reader in (model.head, *model.exits.values()))
    for one, other in zip(logits(model, batch), before, strict=True):
        assert torch.equal(one, other), "what was not trained is as it was, to the last bit"


def test_what_was_trained_keeps_its_function(tiny_tokenizer: Tokenizer) -> None:
    model = encoder(CONFIG, tiny_tokenizer)
    view = load_task("toy-sentiment").training_view()
    rows = encode_examples(view.examples[:80], model, view.kind, 32, "toy")
    batch = rows.batch(range(80))
    with standardized(model, rows):
        with torch.no_grad():
            first_map(model.head).weight += 0.01
        inside = logits(model, batch)
    torch.testing.assert_close(logits(model, batch)[0], inside[0], rtol=1e-3, atol=1e-4)


def test_frozen_readers_stay_as_they_are(tiny_tokenizer: Tokenizer) -> None:
    model = encoder(CONFIG.with_exits("pooler", None), tiny_tokenizer)
    model.requires_grad_(False)
    model.exits.requires_grad_(True)
    view = load_task("toy-sentiment").training_view()
    rows = encode_examples(view.examples[:20], model, view.kind, 32, "toy")
    before = {name: weight.clone() for name, weight in model.head.state_dict().items()}
    with standardized(model, rows):
        assert isinstance(model.head.standard, nn.Identity)
        assert all(isinstance(ramp.standard, Standardized) for ramp in model.exits.values())
    assert all(torch.equal(before[name], weight) for name, weight in model.head.state_dict().items())
