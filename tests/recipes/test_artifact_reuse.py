"""Cached artifacts: one that is whole is used again, one that is not is made again, with the same bytes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.compression.context import Context
from harness.compression.method import Method
from harness.compression.training import train
from harness.models.artifacts import CONFIG, TOKENIZER, WEIGHTS, verify_artifact
from harness.models.checkpoints import save_checkpoint
from harness.models.config import EncoderConfig
from harness.models.model import Model
from harness.models.tokenizer import Tokenizer
from harness.recipes import builder as build
from harness.recipes.builder import Builder, Built, build_untrained
from harness.recipes.recipe import Recipe
from harness.records.cells import BudgetSpec
from harness.records.schema import Training
from harness.tasks import load_task
from tests.support.encoder_models import VOCABULARY, random_weights

RECIPE = Recipe.parse("magnitude:sparsity=0.5")
DAMAGED = (WEIGHTS, TOKENIZER, CONFIG)


@pytest.fixture
def base(tiny_tokenizer: Tokenizer, tmp_path: Path) -> str:
    config = EncoderConfig.bert(1, 24, heads=2, ffn=40, vocab_size=len(VOCABULARY), positions=256)
    save_checkpoint(random_weights(config, 0, tiny_tokenizer), tmp_path / "base")
    return str(tmp_path / "base")


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 9 // 10] ^= 1
    path.write_bytes(content)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.mark.parametrize("name", DAMAGED)
def test_untrained(name: str, base: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folders = build_untrained(RECIPE, base, tmp_path / "work")
    before = [stamps(folder) for folder in folders]
    contents = {path: path.read_bytes() for folder in folders for path in folder.iterdir()}
    assert build_untrained(RECIPE, base, tmp_path / "work") == folders
    assert [stamps(folder) for folder in folders] == before
    assert caplog.messages == []
    damage(folders[0] / name)
    with caplog.at_level(logging.WARNING):
        assert build_untrained(RECIPE, base, tmp_path / "work") == folders
    (message,) = caplog.messages
    assert str(folders[0] / name) in message
    assert stamps(folders[0]) != before[0]
    assert stamps(folders[1]) == before[1]
    assert {path: path.read_bytes() for path in contents} == contents


def test_trained(base: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    budget = {"epochs": 1, "examples": 8, "batch_size": 8}
    spec = BudgetSpec(baseline=budget, recipe=budget)
    builder = Builder(tmp_path / "work", base, load_task("toy-sentiment"), 0, spec)
    parent, built = builder.build(Recipe()), builder.build(RECIPE)
    before = stamps(built.folder)
    assert builder.build(RECIPE) == built
    assert stamps(built.folder) == before
    damage(built.folder / WEIGHTS)
    damage(parent.folder / WEIGHTS)
    with caplog.at_level(logging.WARNING):
        again = builder.build(RECIPE)
    assert len(caplog.messages) == 2, "the baseline that it is made from is damaged too"
    assert again.hash == built.hash
    verify_artifact(again.folder)
    assert builder.build(Recipe()).hash == parent.hash


def test_points_of_a_curve_share_one_training(
    tiny_tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recipes that differ in a threshold chosen after training are trained once, and come out as if each had been."""
    config = EncoderConfig.bert(3, 24, heads=2, ffn=40, vocab_size=len(VOCABULARY), positions=256)
    save_checkpoint(random_weights(config, 0, tiny_tokenizer), tmp_path / "base")
    budget = {"epochs": 1, "examples": 80, "batch_size": 16}
    spec, task = BudgetSpec(baseline=budget, recipe=budget), load_task("toy-sentiment")
    trained: list[str] = []

    def counted(student: Model, methods: Sequence[Method], context: Context, stage: str) -> Training:
        trained.append(stage)
        return train(student, methods, context, stage)

    monkeypatch.setattr(build, "train", counted)

    def made(work: str, text: str) -> Built:
        return Builder(tmp_path / work, str(tmp_path / "base"), task, 0, spec).build(Recipe.parse(text))

    slow, fast = made("together", "deebert:speed=1.2"), made("together", "deebert:speed=1.8")
    assert trained == ["baseline", "deebert:speed=1.2"]
    assert fast.training[-1].stage == "deebert:speed=1.8"
    assert fast.training[-1].seconds == slow.training[-1].seconds
    assert fast.training[-1].figures["threshold"] > slow.training[-1].figures["threshold"]
    alone = made("alone", "deebert:speed=1.8")
    assert alone.hash == fast.hash

    # A threshold that is given sets no rows aside: another training.
    made("together", "deebert:threshold=0.9")
    assert trained[-1] == "deebert:threshold=0.9"
    made("together", "deebert:threshold=0.8")
    assert trained[-1] == "deebert:threshold=0.9"
    # What is kept and no longer whole is not used.
    for path in (tmp_path / "together" / "trained").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert made("together", "deebert:speed=1.5").training[-1].figures["flops_ratio"] >= 1.5
    assert trained[-1] == "deebert:speed=1.5"
