"""kd-logits: which layers the student keeps, and its loss against SciPy's Kullback-Leibler divergence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from torch import Tensor

from harness.compression.context import Context, Step
from harness.compression.distillation import losses as distillation
from harness.compression.distillation.layer_maps import choose_layers
from harness.compression.task_loss import task_loss
from harness.compression.teacher_logits import TeacherLogits
from harness.conformance.tiny import BUDGET, tiny_encoder, tiny_task
from harness.models.batch import Batch, Output
from harness.recipes.builder import run_stage
from harness.recipes.discovery import discover
from harness.recipes.recipe import Recipe
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context


def draw(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def divergence(teacher: Tensor, student: Tensor, temperature: float) -> float:
    """T² · mean over rows of KL(softmax(teacher / T) ‖ softmax(student / T)), by SciPy in double precision."""
    p, q = (softmax(x.double().numpy() / temperature, axis=-1) for x in (teacher, student))
    return float(temperature**2 * rel_entr(p, q).sum(axis=-1).mean())


@pytest.mark.parametrize(
    ("available", "wanted", "choice", "layers"),
    [
        (12, 6, "spread", [0, 2, 4, 7, 9, 11]),  # DistilBERT's
        (12, 3, "spread", [0, 6, 11]),
        (6, 3, "spread", [0, 3, 5]),
        (12, 2, "spread", [0, 11]),
        (12, 1, "spread", [0]),
        (12, 12, "spread", list(range(12))),
        (12, 4, "first", [0, 1, 2, 3]),
        (12, 4, "last", [8, 9, 10, 11]),
        (1, 1, "last", [0]),
    ],
)
def test_the_choice_of_layers(available: int, wanted: int, choice: str, layers: list[int]) -> None:
    assert choose_layers(available, wanted, choice) == layers


@given(st.data())
def test_layers_are_different_and_in_order(data: st.DataObject) -> None:
    available = data.draw(st.integers(1, 64))
    wanted = data.draw(st.integers(1, available))
    for choice in ("spread", "first", "last"):
        layers = choose_layers(available, wanted, choice)
        assert len(layers) == wanted
        assert layers == sorted(set(layers))
        assert 0 <= layers[0] <= layers[-1] < available
    if wanted > 1:
        gaps = np.diff(choose_layers(available, wanted, "spread"))
        assert gaps.max() - gaps.min() <= 1
        assert choose_layers(available, wanted, "spread")[-1] == available - 1


def test_a_student_deeper_than_its_teacher() -> None:
    with refused("^layers=5 ", "4"):
        built("kd-logits:layers=5", training=True)


@pytest.mark.parametrize(("choice", "kept"), [("spread", [0, 3]), ("first", [0, 1]), ("last", [2, 3])])
def test_the_student_starts_from_the_teacher_s_layers(choice: str, kept: list[int]) -> None:
    teacher = tiny_encoder()
    student = built(f"kd-logits:layers=2,choose={choice}", teacher)
    assert len(student.config.layers) == len(student.layers) == 2
    for own, source in zip(student.layers, kept, strict=True):
        pairs = zip(own.parameters(), teacher.layers[source].parameters(), strict=True)
        assert all(torch.equal(a, b) and a.data_ptr() != b.data_ptr() for a, b in pairs)
    for part in ("embedding", "head"):
        pairs = zip(getattr(student, part).parameters(), getattr(teacher, part).parameters(), strict=True)
        assert all(torch.equal(a, b) and a.data_ptr() != b.data_ptr() for a, b in pairs)
    assert student.tokenizer is not None


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_the_divergence_is_scipy_s(temperature: float) -> None:
    teacher, student = draw(16, 3), draw(16, 3, seed=1)
    found = distillation.divergence(student, teacher, temperature).item()
    assert found == pytest.approx(divergence(teacher, student, temperature), rel=1e-5)
    assert distillation.divergence(teacher, teacher, temperature).item() == pytest.approx(0, abs=1e-6)


def test_the_factor_keeps_the_gradient_s_size() -> None:
    """At high temperature T² · KL tends to half the squared distance of the centred logits, over the classes."""
    teacher, student = draw(16, 4), draw(16, 4, seed=1)
    centred = [x - x.mean(1, keepdim=True) for x in (teacher, student)]
    limit = ((centred[0] - centred[1]) ** 2).sum(1).mean() / (2 * 4)
    found = distillation.divergence(student.double(), teacher.double(), 1000.0).item()
    assert found == pytest.approx(limit.item(), rel=0.01)


def loss(
    student: Tensor, teacher: Tensor, targets: Tensor, kind: str, mask: Tensor | None = None, **options: Any
) -> float:
    mask = torch.ones(student.shape[:2], dtype=torch.long) if mask is None else mask
    batch = Batch(torch.zeros_like(mask), mask, torch.zeros_like(mask))
    step = Step(
        kind=kind,  # type: ignore[arg-type]
        batch=batch,
        targets=targets,
        rows=list(range(len(student))),
        output=Output(student),
        task_loss=task_loss(kind, student, targets),  # type: ignore[arg-type]
        progress=0.0,
        teacher=tiny_encoder(),
        _logits=teacher,
    )
    method = discover().get("kd-logits")
    found = method(method.Options(**options)).loss(step)
    assert found is not None
    return float(found)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_classification(alpha: float, temperature: float) -> None:
    student, teacher = draw(8, 3), draw(8, 3, seed=1)
    targets = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    hard = -np.log(softmax(student.double().numpy(), axis=1)[np.arange(8), targets.numpy()]).mean()
    wanted = alpha * hard + (1 - alpha) * divergence(teacher, student, temperature)
    found = loss(student, teacher, targets, "classification", alpha=alpha, temperature=temperature)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_squared_error_and_soft_cross_entropy() -> None:
    student, teacher = draw(8, 3), draw(8, 3, seed=1)
    targets = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    s, t = (x.double().numpy() for x in (student, teacher))
    hard = -np.log(softmax(s, axis=1)[np.arange(8), targets.numpy()]).mean()
    wanted = {
        "mse": ((s - t) ** 2).mean(),
        "soft-ce": -(softmax(t, axis=1) * np.log(softmax(s, axis=1))).sum(1).mean(),
    }
    for name, value in wanted.items():
        found = loss(student, teacher, targets, "classification", loss=name, alpha=0.25, temperature=7.0)
        assert found == pytest.approx(0.25 * hard + 0.75 * value, rel=1e-5), (
            "the temperature is that of kl alone"
        )


@pytest.mark.parametrize("kind", ["kl", "mse", "soft-ce"])
def test_scores_have_a_squared_error(kind: str) -> None:
    student, teacher, targets = draw(8, 1), draw(8, 1, seed=1), draw(8, seed=2)
    wanted = ((student - teacher).double() ** 2).mean().item()
    found = loss(student, teacher, targets, "regression", loss=kind, alpha=0.0)
    assert found == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_regression(alpha: float) -> None:
    student, teacher, targets = draw(8, 1), draw(8, 1, seed=1), draw(8, seed=2)
    s, t, y = (x.double().numpy().ravel() for x in (student, teacher, targets))
    wanted = alpha * ((s - y) ** 2).mean() + (1 - alpha) * ((s - t) ** 2).mean()
    assert loss(student, teacher, targets, "regression", alpha=alpha) == pytest.approx(wanted, rel=1e-5)


def test_spans_are_distributions_over_tokens_without_padding() -> None:
    student, teacher = draw(3, 7, 2), draw(3, 7, 2, seed=1)
    lengths = [7, 4, 5]
    mask = torch.tensor([[1] * n + [0] * (7 - n) for n in lengths])
    targets = torch.tensor([[1, 2], [0, 3], [4, 4]])
    rows = [(teacher[i, :n, side], student[i, :n, side]) for i, n in enumerate(lengths) for side in (0, 1)]
    wanted = np.mean([divergence(t[None], s[None], 2.0) for t, s in rows])
    found = loss(student, teacher, targets, "span", mask, alpha=0.0)
    assert found == pytest.approx(wanted, rel=1e-4)
    # What stands on padding changes nothing, and the cached teacher may be padded further.
    padded = torch.where(mask[..., None] == 0, torch.tensor(50.0), teacher)
    longer = torch.cat([padded, torch.full((3, 5, 2), 99.0)], dim=1)
    assert loss(student, longer, targets, "span", mask, alpha=0.0) == pytest.approx(found, rel=1e-6)


def test_in_training_it_takes_the_place_of_the_task_loss(tmp_path: Any) -> None:
    """With alpha=1 the loop trains on the labels alone: as the copied layers would train without the method."""
    hard, plain = built("kd-logits:layers=2,alpha=1", training=True), built("kd-logits:layers=2")
    from harness.compression.standardizing import adapt
    from harness.compression.training import train

    adapt(plain, tiny_encoder(), context())
    train(plain, [], context(), "plain")
    assert all(torch.equal(a, b) for a, b in zip(hard.parameters(), plain.parameters(), strict=True))
    # With alpha=0 the labels do not count.
    view = tiny_task().training_view()
    flipped = type(view)(
        view.name, view.kind, view.labels, view.metrics, view.metric, view.max_length,
        [type(e)(e.text, e.pair, 1 - int(e.label), e.id) for e in view.examples],  # type: ignore[arg-type, call-overload]
    )  # fmt: skip
    soft = [
        run_stage(
            Recipe.parse("kd-logits:layers=2,alpha=0").stages[0],
            tiny_encoder(),
            Context(tiny_encoder(), task, BUDGET, teacher_logits=TeacherLogits(tmp_path, "tiny")),
        )[0]
        for task in (view, flipped)
    ]
    assert all(torch.equal(a, b) for a, b in zip(soft[0].parameters(), soft[1].parameters(), strict=True))
    assert not torch.equal(next(soft[0].parameters()), next(hard.parameters()))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1, "one teacher on the same tokens is run once"
