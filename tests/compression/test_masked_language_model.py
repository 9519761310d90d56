"""Masked-language modelling: what is hidden, and the loss against `transformers`' own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForMaskedLM

from harness.common.errors import Code
from harness.compression.context import Step
from harness.compression.pretraining import HEAD, IGNORED, MaskedLanguageModel, mask_tokens, pretrain
from harness.compression.training import parameter_groups
from harness.conformance.tiny import CONFIG, tiny_encoder, tiny_tokenizer
from harness.models.batch import Batch
from harness.models.checkpoints import from_folder
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.mlm_head import MaskedLanguageModelHead
from harness.models.tokenizer import Tokenizer
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import context

CLS, SEP, PAD, MASK = 2, 3, 0, 4
NO_STEP = cast(Step, None)
"""The loss reads nothing of the step: the hooks have seen the pass."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(*lengths: int, width: int | None = None, seed: int = 0) -> Batch:
    """[CLS], so many words, [SEP], padding."""
    width = width or max(lengths) + 2
    ids = torch.full((len(lengths), width), PAD)
    for row, length in enumerate(lengths):
        ids[row, 0], ids[row, length + 1] = CLS, SEP
        ids[row, 1 : length + 1] = torch.randint(10, 2000, (length,), generator=generator(seed + row))
    return Batch(ids, (ids != PAD).long(), torch.zeros_like(ids))


def hide(batch: Batch, seed: int = 0) -> tuple[Batch, torch.Tensor]:
    return mask_tokens(batch, torch.tensor([CLS, SEP]), MASK, 2048, generator(seed))


@pytest.mark.parametrize(
    ("words", "hidden"), [(0, 0), (1, 1), (3, 1), (10, 2), (13, 2), (20, 3), (40, 6), (100, 15)]
)
def test_of_n_words_so_many_are_hidden(words: int, hidden: int) -> None:
    """round(0.15 n), at least one where there is any; 0.15 · 10 = 1.5 goes to the even 2."""
    _, targets = hide(rows(words, 30, width=110))
    assert int((targets[0] != IGNORED).sum()) == hidden
    assert int((targets[1] != IGNORED).sum()) == 4  # 4.5 goes to the even 4


def test_special_tokens_and_padding_stay_and_targets_are_the_true_ids() -> None:
    batch = rows(40, 7, 25, 0)
    for seed in range(20):
        seen, targets = hide(batch, seed)
        chosen = targets != IGNORED
        words = batch.input_ids >= 10
        assert not (chosen & ~words).any()
        assert torch.equal(targets[chosen], batch.input_ids[chosen])
        assert torch.equal(seen.input_ids[~chosen], batch.input_ids[~chosen])
        assert torch.equal(seen.attention_mask, batch.attention_mask)
    assert torch.equal(hide(batch, 3)[0].input_ids, hide(batch, 3)[0].input_ids)
    assert not torch.equal(hide(batch, 3)[1], hide(batch, 4)[1])


def test_of_the_hidden_80_in_100_are_masked_and_10_are_random() -> None:
    batch = rows(*[100] * 400)
    seen, targets = hide(batch)
    chosen = targets != IGNORED
    count = int(chosen.sum())
    assert count == 400 * 15
    masked = int((seen.input_ids[chosen] == MASK).sum())
    same = int((seen.input_ids[chosen] == targets[chosen]).sum())
    random = count - masked - same
    for found, share in ((masked, 0.8), (same, 0.1), (random, 0.1)):
        # A random token is the same or [MASK] once in 2048 times: far below five standard deviations.
        assert abs(found - share * count) < 5 * math.sqrt(count * share * (1 - share))
    # Each place is as likely as another.
    places = chosen[:, 1:101].float().mean(0)
    assert (places - 0.15).abs().max() < 5 * math.sqrt(0.15 * 0.85 / 400)


@pytest.fixture
def oracle(tmp_path: Path) -> tuple[BertForMaskedLM, Encoder]:
    """A random masked language model of `transformers`, and its encoder as ours."""
    config = BertConfig(
        vocab_size=2048,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = BertForMaskedLM(config).eval()
        for parameter in theirs.parameters():
            parameter.data.normal_(0, 0.2)
    theirs.save_pretrained(tmp_path)
    ours = from_folder(tmp_path)
    ours.tokenizer = tiny_tokenizer()
    return theirs, ours


def test_the_loss_and_its_gradients_are_transformers_own(oracle: tuple[BertForMaskedLM, Encoder]) -> None:
    theirs, ours = oracle
    model = MaskedLanguageModel(ours, generator())
    predictions = theirs.cls.predictions
    with torch.no_grad():
        model.head.transform.load_state_dict(predictions.transform.dense.state_dict())
        model.head.norm.load_state_dict(predictions.transform.LayerNorm.state_dict())
        model.head.bias.copy_(predictions.bias)
    read: list[Batch] = []
    ours.embedding.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    batch = rows(30, 12, 21)
    ours.eval()(batch)
    loss = model.loss(NO_STEP)
    [seen] = read
    assert not torch.equal(seen.input_ids, batch.input_ids)
    targets = model._targets
    expected = theirs(
        input_ids=seen.input_ids,
        attention_mask=seen.attention_mask,
        token_type_ids=seen.token_type_ids,
        labels=targets,
    ).loss
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    loss.backward()
    expected.backward()
    for mine, other in (
        (ours.embedding.word.weight, theirs.bert.embeddings.word_embeddings.weight),
        (ours.layers[0].attention_in.query.weight, theirs.bert.encoder.layer[0].attention.self.query.weight),
        (model.head.transform.weight, predictions.transform.dense.weight),
        (model.head.bias, predictions.bias),
    ):
        assert mine.grad is not None
        assert torch.allclose(mine.grad, other.grad, atol=1e-5)
    assert ours.head.pooler.weight.grad is None, "the task's head takes no part"


def test_a_batch_of_empty_texts_costs_nothing() -> None:
    student = tiny_encoder()
    model = MaskedLanguageModel(student, generator())
    student(rows(0, 0))
    loss = model.loss(NO_STEP)
    loss.backward()
    assert loss.item() == 0.0
    assert not student.embedding.word.weight.grad.any()


def test_with_factorized_embeddings_the_head_maps_to_their_rank() -> None:
    config = CONFIG.model_copy(update={"embedding_rank": 8})
    head = MaskedLanguageModelHead(config, generator())
    assert head.transform.weight.shape == (8, 32)
    assert head(torch.zeros(5, 32), torch.zeros(2048, 8)).shape == (5, 2048)


def test_the_head_has_a_rate_of_its_own_and_the_encoder_the_budget_s() -> None:
    student = tiny_encoder()
    model = MaskedLanguageModel(student, generator())
    groups = parameter_groups(student, 0.01, [model])
    own = [group for group in groups if "lr" in group]
    assert [len(cast(list[Any], group["params"])) for group in own] == [5]
    assert own[0]["lr"] == 1e-3


def test_pre_training_lowers_the_loss_and_leaves_nothing_behind() -> None:
    given = context(epochs=16, batch_size=8, examples=64)  # 128 steps
    student = tiny_encoder()
    names = sorted(student.state_dict())
    before = {name: parameter.clone() for name, parameter in student.named_parameters()}
    short = pretrain(student, [], given, "toy pre-training", 1 / 128)
    for name, parameter in student.named_parameters():
        # The head of the task is not trained, whatever decays.
        assert torch.equal(parameter, before[name]) == name.startswith("head."), name
    long = pretrain(student, [], given, "toy pre-training", 120 / 128)
    assert short is not None
    assert long is not None
    assert long < 0.85 * short
    assert [(t.stage, t.steps) for t in given.trained] == [("toy pre-training", 1), ("toy pre-training", 120)]
    assert given.trained[1].final_loss == long
    assert sorted(student.state_dict()) == names
    assert not hasattr(student, HEAD)
    assert not student._forward_pre_hooks
    assert not student.head._forward_pre_hooks
    batch = rows(5, 9)
    assert torch.equal(student(batch).logits, student(batch).logits), "nothing is hidden any more"


def test_patience_does_not_end_it() -> None:
    given = context(patience=1, batch_size=8, examples=64, epochs=10)
    pretrain(tiny_encoder(), [], given, "toy", 0.5)
    assert given.trained[0].steps == 40


def test_where_nothing_is_trained_nothing_happens() -> None:
    given, student = context(shapes_only=True), tiny_encoder()
    assert pretrain(student, [], given, "toy", 1) is None
    assert all(
        torch.equal(a, b) for a, b in zip(student.parameters(), tiny_encoder().parameters(), strict=True)
    )


def test_one_seed_gives_one_result() -> None:
    students = [tiny_encoder(), tiny_encoder()]
    for number, student in enumerate(students):
        torch.manual_seed(number)
        pretrain(student, [], context(), "toy", 1)
    one, other = (dict(student.named_parameters()) for student in students)
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())


def test_a_tokenizer_without_a_mask_is_refused() -> None:
    words = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"])}
    student = tiny_encoder()
    fast = BertWordPieceTokenizer(words)._tokenizer
    student.tokenizer = Tokenizer(fast)
    with refused(Code.WRONG_KIND, "[MASK]", "regime=after-fine-tuning"):
        pretrain(student, [], context(), "toy", 1)
