"""Students other than Transformers: their results against NumPy, storage and counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from harness.common.errors import Code
from harness.conformance.check import check_artifact
from harness.models.artifacts import load_artifact, load_encoder, save_artifact, to_dense
from harness.models.batch import Batch
from harness.models.codecs import Bitmask, Codec, Int8
from harness.models.config import HashedWords, HeadConfig
from harness.models.embeddings import PRIME, HashedEmbedding, hash_constants
from harness.models.factory import make_model
from harness.models.flops.counting import count_flops
from harness.models.students.bag import Mean
from harness.models.students.config import BagConfig, RecurrentConfig, StudentConfig
from harness.models.students.recurrent import Recurrent, reversal
from harness.models.students.student import Student, text_of
from harness.models.tokenizer import Tokenizer
from harness.profiling.costs.components import activation_bytes, component_params, component_weight_bytes
from harness.profiling.costs.size import artifact_facts
from harness.tasks import load_task
from tests.support.encoder_models import equal_weights, logits
from tests.support.one_line_errors import refused

COMMON: dict[str, Any] = {"vocab_size": 40, "embedding_size": 5, "positions": 32, "classifier": 6}
KINDS: dict[str, StudentConfig] = {
    "bag": BagConfig(**COMMON),
    "hash": BagConfig(**COMMON, words=HashedWords(buckets=7, hashes=3, rows=11)),
    "lstm": RecurrentConfig(**COMMON, hidden=4),
    "deep": RecurrentConfig(**COMMON, hidden=4, layer_count=3, pooling="max"),
    "attention": RecurrentConfig(**COMMON, hidden=4, pooling="attention"),
    "elman": RecurrentConfig(**COMMON, hidden=4, cell="rnn", bidirectional=False),
    "pairs": RecurrentConfig(**COMMON, hidden=4, cell="rnn", paired=True, head=HeadConfig(outputs=3)),
}


def make(config: StudentConfig, seed: int = 0, tokenizer: Tokenizer | None = None) -> Student:
    model = make_model(config, tokenizer).initialize(torch.Generator().manual_seed(seed)).eval()
    assert isinstance(model, Student)
    return model


def batch_of(lengths: list[int], seed: int = 0, wider: int = 0, second: list[int] | None = None) -> Batch:
    """Make rows of random ids, `second` of them in the second text. Padding has random ids too."""
    generator = torch.Generator().manual_seed(seed)
    more = second or [0] * len(lengths)
    longest = max(a + b for a, b in zip(lengths, more, strict=True)) + wider
    ids = torch.randint(0, 40, (len(lengths), longest), generator=generator)
    place = torch.arange(longest)[None]
    first, whole = (
        torch.tensor(lengths)[:, None],
        torch.tensor(lengths)[:, None] + torch.tensor(more)[:, None],
    )
    return Batch(ids, (place < whole).long(), ((place >= first) & (place < whole)).long())


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def run_cell(cell: nn.RNNBase, inputs: np.ndarray) -> np.ndarray:
    """Compute the states (n, H) of one direction over inputs (n, E), step by step."""
    w, u, b, c = (getattr(cell, f"{name}_l0").detach().double().numpy() for name in
                  ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))  # fmt: skip
    state, memory, found = np.zeros(cell.hidden_size), np.zeros(cell.hidden_size), []
    for x in inputs:
        gates = w @ x + b + u @ state + c
        if isinstance(cell, nn.LSTM):
            i, f, g, o = np.split(gates, 4)
            memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
            state = sigmoid(o) * np.tanh(memory)
        else:
            state = np.tanh(gates)
        found.append(state)
    return np.array(found)


def vector(body: Recurrent, inputs: np.ndarray, pooling: str) -> np.ndarray:
    """Compute the vector of one text from its embeddings (n, E)."""
    for index, forwards in enumerate(body.forwards):
        own = [run_cell(forwards, inputs)]  # type: ignore[arg-type]
        if body.backwards:
            own.append(run_cell(body.backwards[index], inputs[::-1])[::-1])  # type: ignore[arg-type]
        inputs = np.concatenate(own, axis=1)
    if pooling == "max":
        return np.asarray(inputs.max(0))
    if pooling == "attention":
        assert body.attention is not None
        hidden, bias, score = (p.detach().double().numpy() for p in body.attention.parameters())
        scores = (np.tanh(inputs @ hidden.T + bias) @ score.T)[:, 0]
        weights = np.exp(scores) / np.exp(scores).sum()
        return np.asarray(weights @ inputs)
    return np.concatenate([own[0][-1], *(each[0] for each in own[1:])])


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
@pytest.mark.parametrize("pooling", ["last", "max", "attention"])
@pytest.mark.parametrize(("bidirectional", "layers"), [(True, 1), (True, 2), (False, 2)])
def test_recurrent_states(cell: str, pooling: str, bidirectional: bool, layers: int) -> None:
    config = RecurrentConfig.model_validate(
        {
            **COMMON,
            "cell": cell,
            "pooling": pooling,
            "bidirectional": bidirectional,
            "layer_count": layers,
            "hidden": 3,
        }
    )
    body = make(config, seed=2).body
    assert isinstance(body, Recurrent)
    lengths = [6, 1, 4]
    inputs = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(8)[None] < torch.tensor(lengths)[:, None]).long()
    with torch.no_grad():
        found = body(inputs, mask).numpy()
    assert found.shape == (3, config.sentence_size)
    for row, length in enumerate(lengths):
        wanted = vector(body, inputs[row, :length].double().numpy(), pooling)
        np.testing.assert_allclose(found[row], wanted, atol=1e-5)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(0, 3))
def test_reversal_undoes_itself_and_leaves_padding(lengths: list[int], wider: int) -> None:
    longest = max(lengths) + wider
    places = reversal(torch.tensor(lengths), longest)
    for row, length in zip(places.tolist(), lengths, strict=True):
        assert row == [*reversed(range(length)), *range(length, longest)]


def test_the_mean_of_a_text() -> None:
    embedded = torch.tensor([[[1.0, 2], [3, 4], [100, 100]], [[5, 6], [7, 7], [7, 7]]])
    found = Mean()(embedded, torch.tensor([[1, 1, 0], [0, 0, 0]]))
    assert found.tolist() == [[2, 3], [0, 0]]


@pytest.mark.parametrize("kind", KINDS)
def test_neither_padding_nor_other_rows_matter(kind: str) -> None:
    model = make(KINDS[kind], seed=3)
    lengths, second = [5, 1, 9, 3], ([2, 4, 1, 7] if kind == "pairs" else None)
    together = batch_of(lengths, second=second)
    whole = [a + b for a, b in zip(lengths, second or [0] * 4, strict=True)]
    found = logits(model, together)
    wider = batch_of(lengths, second=second, wider=6)
    width = together.input_ids.shape[1]
    wider.input_ids[:, :width] = torch.where(
        together.attention_mask == 1, together.input_ids, wider.input_ids[:, :width]
    )
    assert torch.allclose(logits(model, wider), found, atol=1e-6)
    for row, length in enumerate(whole):
        alone = together.rows(row, row + 1)
        cut = Batch(*(t[:, :length] for t in (alone.input_ids, alone.attention_mask, alone.token_type_ids)))
        assert torch.allclose(logits(model, cut)[0], found[row], atol=1e-6)
    assert found.std(0).min() > 0, "the logits depend on the text"


@pytest.mark.parametrize("kind", KINDS)
def test_texts_without_a_token(kind: str) -> None:
    model = make(KINDS[kind])
    some = logits(model, batch_of([0, 4]))
    assert torch.isfinite(some).all()
    none = Batch(*(torch.zeros(2, 0, dtype=torch.long) for _ in range(3)))
    assert torch.allclose(logits(model, none)[0], some[0], atol=1e-6)


def test_the_texts_of_a_pair() -> None:
    ids = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]])
    batch = Batch(
        ids, torch.tensor([[1] * 5, [1, 1, 1, 0, 0]]), torch.tensor([[0, 0, 0, 1, 1], [0, 1, 1, 1, 1]])
    )
    first, second = text_of(batch, 0), text_of(batch, 1)
    assert (first[0] * first[1]).tolist() == [[1, 2, 3], [6, 0, 0]]
    assert (second[0] * second[1]).tolist() == [[4, 5], [7, 8]]


def test_a_pair_is_classified_by_both_vectors_their_distance_and_their_product() -> None:
    model = make(KINDS["pairs"], seed=4)
    batch = batch_of([3, 2], second=[2, 4])
    with torch.no_grad():
        vectors: list[list[torch.Tensor]] = [[], []]
        for ids, segments, mask in zip(
            batch.input_ids, batch.token_type_ids, batch.attention_mask, strict=True
        ):
            for segment in (0, 1):
                text = ids[(segments == segment) & (mask == 1)][None]
                vectors[segment].append(model.body(model.embedding(text), torch.ones_like(text))[0])
        u, v = (torch.stack(each) for each in vectors)
        hidden = (
            torch.cat([u, v, (u - v).abs(), u * v], 1) @ model.head.hidden.weight.T + model.head.hidden.bias
        )
        wanted = model.head.classifier(hidden.clamp_min(0))
    assert torch.allclose(logits(model, batch), wanted, atol=1e-6)
    assert model.head.hidden.in_features == 4 * model.config.sentence_size


def test_hashed_words_of_shared_rows() -> None:
    words = HashedWords(buckets=7, hashes=3, rows=11)
    module = HashedEmbedding(40, 5, words)
    assert module.importance.shape == (11, 3)
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(generator=generator)
    found = module(torch.tensor([[0, 39, 12]])).detach()
    for place, token in enumerate((0, 39, 12)):
        wanted = torch.zeros(5)
        for index in range(3):
            (a, b), (c, d) = hash_constants(index), hash_constants(16 + index)
            bucket, row = (token * a + b) % PRIME % 7, (token * c + d) % PRIME % 11
            wanted += module.importance[row, index].detach() * module.weight[bucket].detach()
        assert torch.allclose(found[0, place], wanted, atol=1e-6)
    assert "rows" not in HashedWords().model_dump(), "configurations from before keep their text"
    assert HashedWords.model_validate(words.model_dump()) == words


@pytest.mark.parametrize("kind", KINDS)
def test_an_artifact_gives_the_student_back(kind: str, tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    config = KINDS[kind].model_copy(update={"vocab_size": tiny_tokenizer.vocab_size})
    model = make(config, seed=5, tokenizer=tiny_tokenizer)
    folder = tmp_path / "artifact"
    save_artifact(model, folder)
    loaded = load_artifact(folder)
    assert loaded.config == config
    assert equal_weights(loaded, model)
    batch = batch_of([4, 7, 2], second=[1, 1, 3] if config.paired else None)
    assert torch.equal(logits(loaded, batch), logits(model, batch))
    assert torch.equal(logits(to_dense(loaded).eval(), batch), logits(model, batch))
    assert loaded.require_tokenizer().to_json() == tiny_tokenizer.to_json()
    assert check_artifact(folder) == []
    with refused(f"holds a '{config.kind}' student"):
        load_encoder(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_add_up(kind: str, tmp_path: Path) -> None:
    model = make(KINDS[kind])
    folder = tmp_path / "artifact"
    save_artifact(model, folder)
    params = component_params(model)
    assert list(params) == ["embedding", "body", "head"]
    assert sum(params.values()) == sum(p.numel() for p in model.parameters())
    assert component_weight_bytes(model, folder) == {name: 4 * count for name, count in params.items()}
    facts = artifact_facts(folder)
    assert facts.params == sum(params.values())
    assert facts.word_embedding_params == params["embedding"]
    assert facts.survey_layer_params == params["body"]
    assert facts.survey_params == facts.params - sum(p.numel() for p in model.head.classifier.parameters())
    assert activation_bytes(model, Batch.synthetic(2, 8, 40))["embedding"] >= 2 * 8 * 5 * 4


def recurrent_macs(config: RecurrentConfig) -> int:
    """A token costs 4H(E + H) in an LSTM cell and H(E + H) in an Elman cell, in each direction and layer."""
    directions, inputs, macs = (2 if config.bidirectional else 1), config.embedding_size, 0
    for _ in range(config.layer_count):
        macs += directions * (4 if config.cell == "lstm" else 1) * config.hidden * (inputs + config.hidden)
        inputs = directions * config.hidden
    return macs


@pytest.mark.parametrize("kind", ["lstm", "deep", "attention", "elman", "bag"])
@pytest.mark.parametrize(("b", "n"), [(1, 1), (3, 7)])
def test_multiply_adds_to_the_last_unit(kind: str, b: int, n: int) -> None:
    config = KINDS[kind]
    found = count_flops(make(config), Batch.synthetic(b, n, 40))
    size = config.sentence_size
    body = 0
    if isinstance(config, RecurrentConfig):
        body = b * n * recurrent_macs(config)
        if config.pooling == "attention":
            body += b * n * (size * size + 2 * size)
    assert found.components["body"].macs == body
    assert found.components["head"].macs == b * (size * 6 + 6 * 2)
    assert found.total.macs == body + found.components["head"].macs
    assert found.uncounted == ()


def test_both_texts_of_a_pair_are_counted() -> None:
    config = KINDS["pairs"]
    assert isinstance(config, RecurrentConfig)
    batch = batch_of([5, 3], second=[2, 4])
    found = count_flops(make(config), batch)
    assert found.components["body"].macs == 2 * (5 + 4) * recurrent_macs(config)
    assert found.uncounted == ()


@pytest.mark.parametrize("cell", [nn.LSTM, nn.RNN])
def test_packed_rows_count_their_tokens_alone(cell: type[nn.RNNBase]) -> None:
    """One operator may run two layers in both directions; the element operations are the cells'."""

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = cell(5, 4, num_layers=2, bidirectional=True, batch_first=True)

        def forward(self, embedded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(embedded, mask.sum(1), True, enforce_sorted=False)
            return self.cells(packed)[1][0][-2:].transpose(0, 1).flatten(1) if cell is nn.LSTM else (
                self.cells(packed)[1][-2:].transpose(0, 1).flatten(1)
            )  # fmt: skip

    config = RecurrentConfig(**COMMON, hidden=4, layer_count=2, cell="lstm" if cell is nn.LSTM else "rnn")
    found = count_flops(Student(config, Packed()).eval(), batch_of([6, 2, 3]))
    tokens = 6 + 2 + 3
    assert found.components["body"].macs == tokens * recurrent_macs(config)
    own = (2 * 4 + 5) if cell is nn.LSTM else 2
    cells = tokens * 2 * 2 * 4 * own
    assert cells <= found.components["body"].elementwise_flops <= cells + 3 * 6 + 3 * 3
    assert found.uncounted == ()


def test_weights_have_names_that_codecs_and_masks_find(tmp_path: Path) -> None:
    model = make(KINDS["deep"])
    names = model.matrix_names()
    cells = [f"body.{way}.{layer}" for way in ("forwards", "backwards") for layer in range(3)]
    wanted_names = {f"{cell}.weight_{end}_l0" for cell in cells for end in ("ih", "hh")}
    assert set(names) == {*wanted_names, "head.hidden.weight"}
    with torch.no_grad():
        for name in names:
            weight = model.get_parameter(name)
            weight[:, ::2] = 0
            model.storage.codecs[name] = Codec((Int8("channel"), Bitmask()))
    save_artifact(model, tmp_path / "artifact")
    loaded = load_artifact(tmp_path / "artifact")
    for name in names:
        wanted, found = (each.get_parameter(name).detach() for each in (model, loaded))
        assert torch.all(found[:, ::2] == 0)
        assert torch.allclose(found, wanted, atol=float(wanted.abs().max()) / 254 + 1e-7)
    # The cells compute with the loaded weights, not with their initial ones.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(loaded.get_parameter(name))
    batch = batch_of([4, 2])
    assert torch.equal(logits(loaded, batch), logits(model, batch))


@pytest.mark.parametrize("kind", ["span", "none"])
def test_no_head_over_tokens(kind: str) -> None:
    with refused(Code.WRONG_KIND, f"{kind} head"):
        make_model(KINDS["bag"].model_copy(update={"head": HeadConfig(kind=kind)}))  # type: ignore[arg-type]


def test_single_texts_and_pairs(tiny_tokenizer: Tokenizer) -> None:
    update = {"vocab_size": tiny_tokenizer.vocab_size}
    pairs = make(KINDS["pairs"].model_copy(update=update), tokenizer=tiny_tokenizer)
    single = make(KINDS["lstm"].model_copy(update=update), tokenizer=tiny_tokenizer)
    with refused(Code.WRONG_KIND, "single texts"):
        pairs.encode(["the river"])
    with refused(Code.WRONG_KIND, "pairs"):
        single.encode(["the river"], ["a bridge"])
    assert logits(pairs, pairs.encode(["the river"], ["a bridge"])).shape == (1, 3)
    assert logits(single, single.encode(["the river"])).shape == (1, 2)


def test_characters_are_cut_later() -> None:
    task = load_task("toy-sentiment")
    plain = make(KINDS["lstm"])
    assert plain.length_for(task) == min(task.max_length, 32)
    stretched = make(KINDS["lstm"].model_copy(update={"stretch": 5, "positions": 5 * 32}))
    assert stretched.length_for(task) == 5 * plain.length_for(task)


def test_an_unknown_kind() -> None:
    with refused(Code.UNKNOWN_NAME, "'new'"):
        make_model(StudentConfig(kind="new"))
