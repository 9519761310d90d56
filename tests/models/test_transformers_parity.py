"""The elastic encoder against `transformers`' BERT, in both directions (logits agree to 1e-5 in float32)."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    PreTrainedModel,
)

from harness.common.errors import Code
from harness.models.batch import Batch
from harness.models.checkpoints import from_folder, load_model, save_checkpoint
from harness.models.config import EncoderConfig, LayerConfig
from harness.models.encoder.encoder import Encoder
from tests.support.encoder_models import logits, random_batch, random_weights, sentences
from tests.support.one_line_errors import refused

TOLERANCE = 1e-5
SMALL = {
    "vocab_size": 120,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 40,
}
CLASSES: dict[str, type[PreTrainedModel]] = {
    "classification": BertForSequenceClassification,
    "regression": BertForSequenceClassification,
    "span": BertForQuestionAnswering,
    "none": BertModel,
}


@pytest.fixture(autouse=True)
def quiet() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def oracle(kind: str, seed: int = 0, labels: int = 2, **config: object) -> PreTrainedModel:
    """A random BERT of `transformers`, whose biases and norms are drawn too."""
    full = BertConfig(**{**SMALL, **config}, num_labels=labels, attn_implementation="eager")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLASSES[kind](full).eval()
        # Matrices large enough to leave the activation's linear part.
        matrix = 0.8 * full.hidden_size**-0.5
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter) * (0.05 if parameter.dim() == 1 else matrix))
    return model


def theirs(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """The logits that `transformers` computes: start and end stacked for spans, the pooled state without a head."""
    with torch.inference_mode():
        output = model(**vars(batch))
    if isinstance(model, BertForQuestionAnswering):
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    return output.pooler_output if isinstance(model, BertModel) else output.logits


def difference(ours: torch.Tensor, other: torch.Tensor) -> float:
    assert ours.shape == other.shape
    assert ours.dtype == other.dtype == torch.float32
    return float((ours - other).abs().max())


def converted(model: PreTrainedModel, folder: Path, kind: str, labels: int = 2) -> Encoder:
    model.save_pretrained(folder)
    return from_folder(folder, labels, seed=7, head=kind)


SHAPES = {
    "one-layer": {"num_hidden_layers": 1},
    "h48-a12": {"hidden_size": 48, "num_attention_heads": 12, "intermediate_size": 192},
    "h312-a12": {"hidden_size": 312, "num_attention_heads": 12, "intermediate_size": 1200},
    "relu": {"hidden_act": "relu"},
    "gelu-new": {"hidden_act": "gelu_new"},
    "gelu-tanh": {"hidden_act": "gelu_pytorch_tanh"},
    "one-segment-type": {"type_vocab_size": 1},
    "wide-norm": {"layer_norm_eps": 1e-5},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_odd_shapes_agree_both_ways(shape: str, tmp_path: Path) -> None:
    hf = oracle("classification", labels=3, **SHAPES[shape])
    model = converted(hf, tmp_path / "theirs", "classification", labels=3)
    pairs = shape != "one-segment-type"
    batch = random_batch([1, 40, 17, 3, 29], 120, pairs=pairs)
    expected = theirs(hf, batch)
    assert difference(logits(model, batch), expected) <= TOLERANCE

    save_checkpoint(model, tmp_path / "ours")
    back = BertForSequenceClassification.from_pretrained(tmp_path / "ours", attn_implementation="eager")
    assert difference(theirs(back.eval(), batch), expected) <= TOLERANCE


@pytest.mark.parametrize("kind", CLASSES)
def test_every_head_agrees_both_ways(kind: str, tmp_path: Path) -> None:
    labels = {"classification": 5, "regression": 1}.get(kind, 2)
    hf = oracle(kind, labels=labels)
    model = converted(hf, tmp_path / "theirs", kind, labels)
    for rows in ([40], [5, 5, 5], [2, 40, 9, 31, 1, 12, 7]):
        batch = random_batch(rows, 120, seed=len(rows), pairs=True)
        assert difference(logits(model, batch), theirs(hf, batch)) <= TOLERANCE

    save_checkpoint(model, tmp_path / "ours")
    back, report = CLASSES[kind].from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    assert difference(theirs(back.eval(), batch), theirs(hf, batch)) <= TOLERANCE
    for name, tensor in hf.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


def test_hidden_states_and_attentions_agree(tmp_path: Path) -> None:
    hf = oracle("classification")
    model = converted(hf, tmp_path / "theirs", "classification")
    batch = random_batch([3, 40, 22, 11], 120, pairs=True)
    with torch.inference_mode():
        expected = hf(**vars(batch), output_hidden_states=True, output_attentions=True)
        output = model(batch, hidden_states=True, attentions=True)
        only_states = model(batch, hidden_states=True)
    assert len(output.hidden_states) == 4
    assert len(output.attentions) == 3
    assert only_states.attentions is None
    assert model(batch).hidden_states is None
    for ours, other in zip(output.hidden_states, expected.hidden_states, strict=True):
        assert difference(ours, other) <= TOLERANCE
    for ours, other in zip(output.attentions, expected.attentions, strict=True):
        assert difference(ours.probabilities, other) <= TOLERANCE
        assert torch.allclose(ours.probabilities.sum(-1), torch.ones(()))
        assert not ours.probabilities[0, :, :, 3:].any(), "padding is attended to"
        assert torch.allclose(
            ours.scores[0, :, :, :3].softmax(-1), ours.probabilities[0, :, :, :3], atol=1e-6
        )
    for ours, other in zip(only_states.hidden_states, expected.hidden_states, strict=True):
        assert difference(ours, other) <= TOLERANCE


def test_full_length_agrees(tmp_path: Path) -> None:
    hf = oracle("classification", max_position_embeddings=512)
    model = converted(hf, tmp_path / "theirs", "classification")
    batch = random_batch([512, 511, 300], 120, pairs=True)
    assert difference(logits(model, batch), theirs(hf, batch)) <= TOLERANCE


def test_gradients_agree(tmp_path: Path) -> None:
    """Training needs gradients that agree too."""
    hf = oracle("classification", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = converted(hf, tmp_path / "theirs", "classification")
    batch = random_batch([30, 12, 40], 120, pairs=True)
    labels = torch.tensor([0, 1, 1])
    torch.nn.functional.cross_entropy(hf(**vars(batch)).logits, labels).backward()
    torch.nn.functional.cross_entropy(model(batch).logits, labels).backward()
    theirs_ = dict(hf.named_parameters())
    pairs = {
        "embedding.word.weight": "bert.embeddings.word_embeddings.weight",
        "layers.0.attention_in.key.weight": "bert.encoder.layer.0.attention.self.key.weight",
        "layers.2.ffn.out.bias": "bert.encoder.layer.2.output.dense.bias",
        "head.pooler.weight": "bert.pooler.dense.weight",
    }
    parameters = dict(model.named_parameters())
    for ours, other in pairs.items():
        assert theirs_[other].grad.abs().max() > 1e-6
        assert difference(parameters[ours].grad, theirs_[other].grad) <= TOLERANCE


@pytest.mark.slow
def test_random_bert_base_agrees_both_ways(tmp_path: Path) -> None:
    config = BertConfig()
    hf = oracle("classification", labels=2, **{name: getattr(config, name) for name in SMALL})
    model = converted(hf, tmp_path / "theirs", "classification")
    assert model.config.layers == EncoderConfig.bert(12, 768).layers
    batch = random_batch([64, 1, 33], 30522, pairs=True)
    expected = theirs(hf, batch)
    assert difference(logits(model, batch), expected) <= TOLERANCE
    del hf
    save_checkpoint(model, tmp_path / "ours")
    back = BertForSequenceClassification.from_pretrained(tmp_path / "ours").eval()
    assert difference(theirs(back, batch), expected) <= TOLERANCE


@pytest.fixture(scope="module")
def minilm(minilm_folder: Path) -> Encoder:
    """MiniLM read as `transformers` reads it: by its first token."""
    return load_model("minilm-l6@first-token", labels=3, seed=1)


def minilm_agrees(model: Encoder, folder: Path, texts: list[str], pairs: list[str] | None, size: int) -> None:
    """Batches of `size` through our tokenizer and model, against theirs loaded from what we saved."""
    save_checkpoint(model, folder)
    hf = BertForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for start in range(0, len(texts), size):
        some = texts[start : start + size]
        others = None if pairs is None else pairs[start : start + size]
        batch = model.encode(some, others)
        expected = tokenizer(some, others, padding=True, return_tensors="pt")
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            assert torch.equal(getattr(batch, name), expected[name])
        assert difference(logits(model, batch), theirs(hf, batch)) <= TOLERANCE


def test_minilm_on_200_sentences(minilm: Encoder, tmp_path: Path) -> None:
    texts = sentences(200)
    lengths = minilm.encode(texts).attention_mask.sum(1)
    assert len(lengths.unique()) > 15, "the batches have too little padding"
    minilm_agrees(minilm, tmp_path / "minilm", texts, None, size=10)


def test_minilm_on_pairs(minilm: Encoder, tmp_path: Path) -> None:
    minilm_agrees(minilm, tmp_path / "minilm", sentences(21, 1), sentences(21, 2), size=7)


def test_minilm_hidden_states_and_full_length(minilm_folder: Path) -> None:
    model = load_model("minilm-l6@first-token", head="none")
    hf = BertModel.from_pretrained(minilm_folder, attn_implementation="eager").eval()
    batch = model.encode([" ".join(sentences(60, 3)), sentences(1, 4)[0]])
    assert batch.input_ids.shape == (2, 512)
    assert difference(logits(model, batch), theirs(hf, batch)) <= TOLERANCE
    # The states differ by float32's rounding only: in float64 they agree.
    with torch.inference_mode():
        expected = hf.double()(**vars(batch), output_hidden_states=True).hidden_states
        states = model.double()(batch, hidden_states=True).hidden_states
    for ours, other in zip(states, expected, strict=True):
        assert float((ours - other).abs().max()) <= 1e-12


@pytest.mark.needs_data
@pytest.mark.slow
@pytest.mark.parametrize(("task", "count", "columns"), [("SST-2", 200, (0,)), ("MRPC", 60, (3, 4))])
def test_minilm_on_glue(
    task: str, count: int, columns: tuple[int, ...], minilm: Encoder, tmp_path: Path
) -> None:
    data = os.environ.get("SKYLINE_DATA_DIR")
    if not data or not (Path(data) / task / "dev.tsv").is_file():
        pytest.skip(f"SKYLINE_DATA_DIR names no folder with {task}")
    with (Path(data) / task / "dev.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1 : count + 1]
    texts, pairs = [row[columns[0]] for row in rows], [row[columns[-1]] for row in rows]
    assert len(texts) == count
    minilm_agrees(minilm, tmp_path / "minilm", texts, pairs if len(columns) == 2 else None, size=10)


def as_bin(model: PreTrainedModel, folder: Path, rename: Callable[[str], str] = str) -> None:
    model.config.save_pretrained(folder)
    weights = {rename(name): tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save(weights, folder / "pytorch_model.bin")


def test_pytorch_bin_and_names_of_tensorflow(tmp_path: Path) -> None:
    hf = oracle("classification")
    batch = random_batch([9, 40, 3], 120)
    as_bin(hf, tmp_path / "plain")
    as_bin(
        hf,
        tmp_path / "old",
        lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ),
    )
    plain, old = from_folder(tmp_path / "plain"), from_folder(tmp_path / "old")
    assert difference(logits(plain, batch), theirs(hf, batch)) <= TOLERANCE
    assert torch.equal(logits(plain, batch), logits(old, batch))
    assert plain.origin.startswith("sha256:")
    assert plain.origin != old.origin


def test_pretraining_checkpoint_and_half_precision(tmp_path: Path) -> None:
    """Pre-training heads are ignored; weights in half precision widen to float32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        hf = BertForPreTraining(BertConfig(**SMALL)).eval()
    hf.half().save_pretrained(tmp_path / "half")
    model = from_folder(tmp_path / "half", head="none")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    batch = random_batch([9, 40], 120)
    assert difference(logits(model, batch), theirs(hf.bert.float(), batch)) <= TOLERANCE


def test_checkpoint_without_pooler(tmp_path: Path) -> None:
    """The encoder comes from the file, the pooler from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        hf = BertModel(BertConfig(**SMALL), add_pooling_layer=False).eval()
    hf.save_pretrained(tmp_path / "bare")
    batch = random_batch([9, 40], 120)
    one, other = (from_folder(tmp_path / "bare", seed=seed) for seed in (1, 2))
    with torch.inference_mode():
        expected = hf(**vars(batch)).last_hidden_state
        states = [model(batch, hidden_states=True).hidden_states[-1] for model in (one, other)]
    assert difference(states[0], expected) <= TOLERANCE
    assert torch.equal(states[0], states[1])
    assert not torch.equal(one.head.pooler.weight, other.head.pooler.weight)


def test_head_of_another_size_is_drawn_anew(tmp_path: Path) -> None:
    hf = oracle("classification", labels=3)
    model = converted(hf, tmp_path / "theirs", "classification", labels=2)
    assert model.head.classifier.weight.shape == (2, 64)
    assert torch.equal(model.head.pooler.weight, hf.bert.pooler.dense.weight)


INEXPRESSIBLE = {
    "low-rank": EncoderConfig(
        hidden_size=24, layers=(LayerConfig(heads=2, head_size=12, ranks={"query": 3}),)
    ),
    "fewer-heads": EncoderConfig(hidden_size=24, layers=(LayerConfig(heads=1, head_size=12),)),
    "different-layers": EncoderConfig(
        hidden_size=24, layers=tuple(LayerConfig(heads=2, head_size=12, ffn_size=size) for size in (40, 48))
    ),
    "shared": EncoderConfig(
        hidden_size=24,
        layers=(LayerConfig(heads=2, head_size=12), LayerConfig(heads=2, head_size=12, shares_with=0)),
    ),
    "factorized-embedding": EncoderConfig.bert(1, 24, 2, embedding_rank=4),
    "no-pooler": EncoderConfig.bert(1, 24, 2, pooler=False),
}


@pytest.mark.parametrize("shape", INEXPRESSIBLE)
def test_saving_what_bert_cannot_express_fails(shape: str, tmp_path: Path) -> None:
    config = INEXPRESSIBLE[shape].model_copy(update={"vocab_size": 30})
    with refused(Code.WRONG_SHAPE):
        save_checkpoint(random_weights(config, 0), tmp_path / "no")
    assert list(tmp_path.iterdir()) == []


def test_saving_over_a_folder_fails_and_leaves_it(tiny: Encoder, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("keep")
    with refused("exists", str(tmp_path / "mine")):
        save_checkpoint(tiny, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]


def test_interrupted_saving_leaves_nothing(
    tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.models.checkpoints.exporting.save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tiny, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
