"""Pooling: the vector that a head reads, and where a base model says how it pools."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.common.errors import Code
from harness.models.checkpoints import base_config, load_model, origin_of
from harness.models.checkpoints.exporting import hf_config
from harness.models.checkpoints.importing import read_pooling
from harness.models.config import EncoderConfig
from harness.models.encoder.heads import row_vector
from harness.models.students.bottleneck_config import BottleneckConfig
from tests.support.encoder_models import TINY, random_batch, random_weights
from tests.support.one_line_errors import refused


def test_the_mean_is_over_the_tokens_that_are_present() -> None:
    generator = np.random.default_rng(0)
    states, lengths = generator.normal(size=(3, 7, 5)), [7, 1, 4]
    present = np.arange(7) < np.array(lengths)[:, None]
    found = row_vector(torch.from_numpy(states), torch.from_numpy(present), "mean").numpy()
    wanted = [states[row, :length].mean(0) for row, length in enumerate(lengths)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    first = row_vector(torch.from_numpy(states), torch.from_numpy(present), "first-token").numpy()
    np.testing.assert_array_equal(first, states[:, 0])


def test_padding_changes_no_answer() -> None:
    model = random_weights(TINY.model_copy(update={"pooling": "mean"}), 0).eval()
    batch = random_batch([9, 4, 17], TINY.vocab_size)
    with torch.inference_mode():
        together = model(batch).logits
        for row, length in enumerate([9, 4, 17]):
            alone = batch.rows(row, row + 1)
            short = type(batch)(*(tensor[:, :length] for tensor in vars(alone).values()))
            torch.testing.assert_close(model(short).logits, together[row : row + 1])


@pytest.mark.parametrize("config", [TINY, BottleneckConfig()])
def test_older_configurations_keep_their_text(config: EncoderConfig | BottleneckConfig) -> None:
    assert "pooling" not in config.model_dump_json()
    mean = config.model_copy(update={"pooling": "mean"})
    assert type(config).model_validate_json(mean.model_dump_json()).pooling == "mean"


def test_minilm_pools_as_its_description_says() -> None:
    assert base_config("minilm-l6").pooling == "mean"
    assert base_config("minilm-l6@first-token").pooling == "first-token"
    assert base_config("bert-tiny").pooling == "first-token"
    assert base_config("bert-tiny@mean").pooling == "mean"
    origins = {origin_of(name) for name in ("minilm-l6", "minilm-l6@first-token", "minilm-l6@mean")}
    assert len(origins) == 3
    assert load_model("bert-tiny@mean").config.pooling == "mean"


def describe(folder: Path, **modes: bool) -> Path:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes), encoding="utf-8")
    return folder


def test_descriptions_of_other_poolings_are_refused(tmp_path: Path) -> None:
    assert read_pooling(tmp_path) == "first-token"
    describe(tmp_path, pooling_mode_cls_token=False, pooling_mode_max_tokens=True)
    with refused(Code.UNSUPPORTED, "pooling_mode_max_tokens", "@mean"):
        read_pooling(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text("{", encoding="utf-8")
    with refused(Code.UNREADABLE, "config.json"):
        read_pooling(tmp_path)


def test_transformers_has_no_head_on_the_mean() -> None:
    with refused(Code.WRONG_SHAPE, "mean"):
        hf_config(TINY.model_copy(update={"pooling": "mean"}))
