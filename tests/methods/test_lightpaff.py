"""lightpaff: the sizes of its student, what cutting keeps, and its loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch import nn

from harness.common.errors import Code
from harness.compression.context import Step
from harness.compression.pruning.reconstruction import Moments, observe_inputs, read_from, strongest_groups
from harness.compression.task_loss import task_loss
from harness.conformance.tiny import CONFIG, tiny_encoder
from harness.models.batch import Batch, Output
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from methods.distillation.lightpaff import narrow, narrower
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context, draw, method_of, shape_left


def logits_on(model: Encoder) -> torch.Tensor:
    with torch.no_grad():
        return model(Batch.synthetic(4, 12, CONFIG.vocab_size)).logits


def test_of_bert_base_two_thirds() -> None:
    config = method_of("lightpaff").final_shape_from(EncoderConfig.bert(12, 768))
    assert config.hidden_size == 512
    assert [(layer.heads, layer.head_size, layer.ffn_size) for layer in config.layers] == [(8, 64, 2048)] * 3


def test_the_shape_that_is_promised_is_made() -> None:
    recipe = "lightpaff:layers=2,width=0.5,batches=1"
    student = built(recipe)
    assert student.config == shape_left(recipe, CONFIG)
    assert student.embedding.word.weight.shape == (2048, 16)


def test_a_map_reads_what_the_kept_inputs_tell() -> None:
    """Inputs 2 and 3 are sums of 0 and 1: without them the map gives the same."""
    base = draw(200, 2)
    rows = torch.cat([base, base[:, :1] + base[:, 1:] + 2, 3 * base[:, :1] - 1], dim=1)
    moments = Moments(4)
    moments.add(rows)
    module = nn.Linear(4, 3)
    before = module(rows).detach()
    read_from(module, moments, [0, 1])
    after = (base @ module.weight[:, :2].T + module.bias).detach()
    assert torch.allclose(after, before, atol=2e-2 * float(before.abs().max()))


def test_the_strongest_groups_by_hand() -> None:
    """Variances 1, 4, 9, 1 times squared weights 9, 1, 0, 4: 9, 4, 0, 4; in groups of two 13 and 4."""
    covariance, weight = torch.diag(torch.tensor([1.0, 4, 9, 1])), torch.tensor([[3.0, 1, 0, 2]])
    assert strongest_groups(covariance, weight, 1) == [0]
    assert strongest_groups(covariance, weight, 2) == [0, 1]
    assert strongest_groups(covariance, weight, 1, size=2) == [0]


def test_heads_and_columns_that_add_nothing_are_what_goes() -> None:
    """With zero weights behind half of them, cutting these changes no logit."""
    model = tiny_encoder().eval()
    with torch.no_grad():
        for layer in model.layers:
            layer.attention_out.dense.weight[:, 8:24] = 0  # type: ignore[union-attr, index]
            layer.ffn.out.weight[:, ::2] = 0  # type: ignore[union-attr, index]
    wanted = logits_on(model)
    layers = tuple(layer.model_copy(update={"heads": 2, "ffn_size": 64}) for layer in CONFIG.layers)
    config = CONFIG.with_layers(layers)
    cut = narrow(model, config, observe_inputs(model, context(model), 2)).eval()
    assert cut.config == config
    assert torch.allclose(logits_on(cut), wanted, atol=1e-3)


@pytest.mark.parametrize("weight", [0.0, 0.75, 1.0])
def test_the_loss_by_hand(weight: float) -> None:
    student, teacher, targets = draw(6, 3), draw(6, 3, seed=1), torch.tensor([0, 1, 2, 0, 1, 2])
    ids = torch.zeros(6, 2, dtype=torch.long)
    step = Step(
        kind="classification",
        batch=Batch(ids, torch.ones_like(ids), ids),
        targets=targets,
        rows=list(range(6)),
        output=Output(student),
        task_loss=task_loss("classification", student, targets),
        progress=0.0,
        teacher=tiny_encoder(),
        _logits=teacher,
    )
    p, q = (softmax(each.double().numpy(), axis=1) for each in (teacher, student))
    hard = -np.log(q[np.arange(6), targets.numpy()]).mean()
    wanted = (1 - weight) * hard + weight * rel_entr(p, q).sum(1).mean()
    found = method_of(f"lightpaff:weight={weight}").loss(step)
    assert float(found) == pytest.approx(wanted, rel=1e-5)  # type: ignore[arg-type]


def test_refusals() -> None:
    with refused("layers=5", "4"):
        shape_left("lightpaff:layers=5", CONFIG)
    with refused("factorized"):
        shape_left("lightpaff:layers=2", shape_left("svd:rank=8", CONFIG))
    with refused(Code.OUT_OF_RANGE, "width=0.3", "10 hidden units", "rank 16"):
        narrower(CONFIG.model_copy(update={"embedding_rank": 16}), 0.3)


def test_a_factorized_embedding_is_cut_at_its_projection() -> None:
    teacher: Encoder = built("embedding-factorization:rank=8")
    student = built("lightpaff:layers=2,width=0.5,batches=1", teacher)
    assert student.embedding.word.weight.shape == (2048, 8)
    assert student.embedding.project is not None
    assert student.embedding.project.weight.shape == (16, 8)
