"""Small models that tests of several packages share, as fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.models import checkpoints
from harness.models.checkpoints import places
from harness.models.encoder.encoder import Encoder
from harness.models.tokenizer import Tokenizer
from tests.support.encoder_models import TINY, VOCABULARY, logits, random_batch, random_weights


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    folder = places.package_folder()
    if folder is None:
        pytest.skip("needs the extra 'offline' (MiniLM's weights)")
    return folder


@pytest.fixture(scope="session")
def minilm(minilm_folder: Path) -> Encoder:
    """MiniLM with a classifier of three labels, drawn from seed 1."""
    return checkpoints.load_model("minilm-l6", labels=3, seed=1)


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return Tokenizer.from_folder(folder)


@pytest.fixture
def tiny(tiny_tokenizer: Tokenizer) -> Encoder:
    """Two layers of 24 with two heads, a fresh one for each test."""
    return random_weights(TINY, seed=0, tokenizer=tiny_tokenizer)


@pytest.fixture
def checkpoint(tiny: Encoder, tmp_path: Path) -> Path:
    """A healthy folder in Hugging Face's format, of `tiny`."""
    folder = tmp_path / "healthy"
    checkpoints.save_checkpoint(tiny, folder)
    batch = random_batch([5, 9], TINY.vocab_size)
    assert torch.equal(logits(checkpoints.load_model(str(folder)), batch), logits(tiny, batch))
    return folder
