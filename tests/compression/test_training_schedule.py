"""The learning rate at each step, and which parameters decay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_linear_schedule_with_warmup

from harness.compression.training import linear_schedule, parameter_groups
from harness.conformance.tiny import tiny_encoder


def test_the_schedule_in_closed_form() -> None:
    rates = [linear_schedule(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert rates[10:] == pytest.approx([(100 - n) / 90 for n in range(10, 100)])
    assert [linear_schedule(n, 4, 0.0) for n in range(4)] == pytest.approx([1, 1, 2 / 3, 1 / 3])


@given(st.integers(1, 300), st.floats(0, 0.99))
def test_the_schedule_peaks_once_and_stays_positive(steps: int, warmup: float) -> None:
    rates = [linear_schedule(step, steps, warmup) for step in range(steps)]
    assert max(rates) <= 1
    assert min(rates) > 0
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_the_decay_is_that_of_transformers() -> None:
    def rates(make: Any) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = make(optimizer)
        found = []
        for _ in range(50):
            found.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        return found

    ours = rates(lambda optimizer: LambdaLR(optimizer, lambda step: linear_schedule(step, 50, 0.2)))
    theirs = rates(lambda optimizer: get_linear_schedule_with_warmup(optimizer, 10, 50))
    assert ours[10:] == pytest.approx(theirs[10:])
    # Theirs spends its first step at zero, ours does not.
    assert ours[:9] == pytest.approx(theirs[1:10])


def test_biases_and_norms_do_not_decay() -> None:
    model = tiny_encoder()
    matrices, others = parameter_groups(model, 0.01)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(p)] for p in matrices["params"]}  # type: ignore[attr-defined]
    plain = {names[id(p)] for p in others["params"]}  # type: ignore[attr-defined]
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.01, 0.0)
    assert decayed | plain == set(names.values())
    assert {name for name in names.values() if name.endswith(".bias") or ".norm." in name} == plain
