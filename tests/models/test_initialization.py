"""Building models without memory for their weights."""

from __future__ import annotations

import subprocess
import sys

import torch

from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.models.initialization import nothing_drawn, without_weights

TINY = EncoderConfig.bert(1, 8, heads=2, vocab_size=50, positions=16)


def test_shapes_and_no_memory() -> None:
    with without_weights():
        made = Encoder(TINY)
    assert {t.device.type for t in made.contents().values()} == {"meta"}
    drawn = Encoder(TINY).contents()
    assert {n: t.shape for n, t in made.contents().items()} == {n: t.shape for n, t in drawn.items()}


def test_nothing_is_drawn_and_constants_are_set() -> None:
    before = torch.get_rng_state()
    with nothing_drawn():
        made = Encoder(TINY)
    assert torch.equal(torch.get_rng_state(), before)
    assert not made.embedding.word.weight.any()
    norms = [module for module in made.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert norms
    assert all((norm.weight == 1).all() for norm in norms)


def test_afterwards_weights_are_drawn_as_before() -> None:
    with without_weights():
        Encoder(TINY)
    linear = torch.nn.Linear(4, 4)
    assert linear.weight.device.type == "cpu"
    assert linear.weight.std() > 0


def test_the_first_model_of_a_process_does_not_import_the_compiler() -> None:
    code = (
        "import sys\n"
        "from harness.models.config import EncoderConfig\n"
        "from harness.models.factory import make_model\n"
        "from harness.models.initialization import without_weights\n"
        "with without_weights():\n"
        "    make_model(EncoderConfig.bert(1, 8, heads=2, vocab_size=50, positions=16))\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
