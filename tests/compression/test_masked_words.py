"""Candidates from the masked language model that a checkpoint brings along, against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from harness.compression.distillation import augmentation
from harness.compression.distillation.augmentation import augment, likely_words, replaceable, whole_words
from harness.compression.teacher_logits import TeacherLogits
from harness.conformance.tiny import CONFIG, tiny_encoder, tiny_tokenizer
from harness.models.checkpoints import from_folder, load_language_model
from tests.support.tiny_stages import context

TEXTS = ["the film was great , not boring", "awful plot", "a zebra in a great film"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BertForMaskedLM]:
    config = BertConfig(
        vocab_size=CONFIG.vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_act="gelu",
    )
    torch.manual_seed(0)
    model = BertForMaskedLM(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.3)
    folder = tmp_path_factory.mktemp("masked")
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tiny_tokenizer().to_json())
    return folder, model


def test_the_likeliest_words(
    checkpoint: tuple[Path, BertForMaskedLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, oracle = checkpoint
    monkeypatch.setattr(augmentation, "ROWS", 2)
    base, head = from_folder(folder), load_language_model(str(folder))
    assert head is not None
    found = likely_words(base, head, TEXTS)
    tokenizer, whole = base.require_tokenizer(), whole_words(base.require_tokenizer())
    names, seen = list(whole), 0
    for text in TEXTS:
        for word in replaceable(text):
            pieces = tokenizer.fast.encode(word.group(), add_special_tokens=False).ids
            if len(pieces) > 1:
                assert (text, word.start()) not in found, "a word in pieces"
                continue
            masked = f"{text[: word.start()]}[MASK]{text[word.end() :]}"
            ids = torch.tensor([tokenizer.fast.encode(masked).ids])
            with torch.no_grad():
                logits = oracle(input_ids=ids).logits[0, ids[0].tolist().index(4)]
            best = sorted(names, key=lambda name: -float(logits[whole[name]]))
            wanted = [name for name in best if whole[name] != pieces[0]][:15]
            assert found[text, word.start()] == wanted
            seen += 1
    assert seen == len(found) >= 4


def test_checkpoints_without_one(checkpoint: tuple[Path, BertForMaskedLM], tmp_path: Path) -> None:
    _, oracle = checkpoint
    oracle.bert.save_pretrained(tmp_path)
    assert load_language_model(str(tmp_path)) is None
    assert load_language_model("minilm-l6") is None


def test_it_comes_before_neighbours(
    checkpoint: tuple[Path, BertForMaskedLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = checkpoint
    asked: list[str] = []
    nearest = augmentation.nearest_words

    def watch(model: Any, words: Any) -> Any:
        asked.extend(words)
        return nearest(model, words)

    monkeypatch.setattr(augmentation, "nearest_words", watch)
    given = context(
        tiny_encoder().eval(),
        load_pretrained=lambda: from_folder(folder),
        teacher_logits=TeacherLogits(tmp_path, "tiny"),
        examples=12,
    )
    given.load_language_model = lambda: load_language_model(str(folder))
    made = augment(given, 2)
    tokenizer = tiny_tokenizer().fast
    assert all(len(tokenizer.encode(word, add_special_tokens=False).ids) > 1 for word in asked)
    given.load_language_model = lambda: None
    assert augment(given, 2) != made, "what another model made is not taken from the disk"
