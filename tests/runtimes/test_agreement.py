"""A runtime's answers compared with eager's: what counts as equal, over which rows, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.common.errors import Code
from harness.profiling.inputs import Inputs, make_workload
from harness.profiling.latency import agreement
from harness.profiling.latency.agreement import ROWS, measure_agreement, rows_to_compare, same_predictions
from harness.runtimes import Executable, Execution, load
from tests.support.one_line_errors import refused
from tests.support.runtime_models import CONFIGS, PLAIN, batch_of, drawn, quantized, saved

INPUTS = Inputs.of(make_workload(16, 8))


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Tensor], Tensor]], None]:
    """Replace the logits of all other runtimes by a function of eager's, in this process."""

    def answer(change: Callable[[Tensor], Tensor]) -> None:
        def loaded(execution: Execution) -> Executable:
            eager = load(Execution(execution.folder))
            plain = execution.runtime == "eager" and execution.precision == "float32"
            return eager if plain else Executable(lambda batch: change(eager(batch).clone()))

        monkeypatch.setattr(agreement, "load", loaded)
        monkeypatch.setattr(agreement, "run_isolated", lambda function, *args: function(*args))

    return answer


def flipped(count: int) -> Callable[[Tensor], Tensor]:
    """Exchange the classes' logits in the first `count` rows of a measurement."""
    left = count

    def change(logits: Tensor) -> Tensor:
        nonlocal left
        turned = min(left, len(logits))
        left -= turned
        logits[:turned] = logits[:turned].flip(1)
        return logits

    return change


def test_eager_as_the_artifact_says_is_what_others_are_held_against() -> None:
    assert measure_agreement(Execution(Path("nowhere")), INPUTS) is None


def test_float32_allows_logits_to_differ_a_little(other: Any, tmp_path: Path) -> None:
    execution = Execution(saved(drawn(PLAIN), tmp_path / "a"), "compile")
    other(lambda logits: logits + 0.9e-4)
    found = measure_agreement(execution, INPUTS)
    assert found is not None
    assert (found.rows, found.equal) == (24, 1.0)
    assert found.largest_difference == pytest.approx(0.9e-4, rel=1e-2)
    other(lambda logits: logits + 1.1e-4)
    with refused(Code.NOT_COMPARABLE, "'compile'", "float32", "100 %", "24 rows", "0.00011", "0.0001"):
        measure_agreement(execution, INPUTS)


def test_no_number_is_no_agreement(other: Any, tmp_path: Path) -> None:
    other(lambda logits: logits * float("nan"))
    with refused(Code.NOT_COMPARABLE, "3.4e+38"):
        measure_agreement(Execution(saved(drawn(PLAIN), tmp_path / "a"), "compile"), INPUTS)


@pytest.mark.parametrize("way", ["int8", "bfloat16", "stored in int8"])
def test_elsewhere_one_answer_in_a_hundred_may_be_another(way: str, other: Any, tmp_path: Path) -> None:
    stored = way == "stored in int8"
    folder = saved(quantized(drawn(PLAIN)) if stored else drawn(PLAIN), tmp_path / "a")
    execution = Execution(folder, "openvino", precision="float32" if stored else way)  # type: ignore[arg-type]
    other(flipped(1))
    found = measure_agreement(execution, INPUTS)
    assert found is not None
    assert found.equal == 103 / 104
    assert found.largest_difference > 1e-4
    other(flipped(2))
    with refused(Code.NOT_COMPARABLE, "98.08 %", "104 rows", "99 %"):
        measure_agreement(execution, INPUTS)


def test_synthetic_rows_are_of_all_lengths_and_half_of_them_pairs() -> None:
    batches = list(rows_to_compare(Inputs.of(make_workload(12, 8)), PLAIN, "cpu"))
    assert [batch.input_ids.shape for batch in batches] == [(8, 12)] * 13
    lengths = torch.cat([batch.attention_mask.sum(1) for batch in batches])
    assert len(lengths) >= ROWS
    assert set(lengths.tolist()) == set(range(2, 13))
    # Each pass has short and long rows.
    assert all(batch.attention_mask.sum(1).max() - batch.attention_mask.sum(1).min() > 6 for batch in batches)
    paired = torch.cat([batch.token_type_ids.amax(1) for batch in batches])
    assert paired.float().mean() == 0.5
    for batch in batches:
        assert not (batch.token_type_ids * (1 - batch.attention_mask)).any()
    alone = PLAIN.model_copy(update={"segments": 1})
    assert not any(b.token_type_ids.any() for b in rows_to_compare(INPUTS, alone, "cpu"))


def test_real_rows_are_the_workloads_own() -> None:
    rows = batch_of([9, 4, 17, 3, 8, 16])
    [first, second] = rows_to_compare(Inputs.of(make_workload(16, 3, "real"), rows), PLAIN, "cpu")
    assert torch.equal(first.input_ids, rows.input_ids[[2, 5, 0], :16])
    assert torch.equal(second.input_ids, rows.input_ids[[4, 1, 3], :8])


def test_equal_predictions_by_head() -> None:
    batch = batch_of([3, 2])
    first = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
    assert same_predictions(first, first.flip(1), batch, "classification").tolist() == [False, False]
    assert same_predictions(first, first * 3, batch, "classification").tolist() == [True, True]
    scores = torch.tensor([[4.0], [1.0]])
    moved = scores + torch.tensor([[0.039], [-0.041]])
    assert same_predictions(scores, moved, batch, "regression").tolist() == [True, False]
    spans = torch.zeros(2, 3, 2)
    spans[:, 1, 0] = spans[:, 1, 1] = 1
    other = spans.clone()
    other[1, 2] = 5  # the second row's padding
    assert same_predictions(spans, other, batch, "span").tolist() == [True, True]
    other[0, 2, 1] = 5
    assert same_predictions(spans, other, batch, "span").tolist() == [False, True]


@pytest.mark.parametrize("kind", CONFIGS)
def test_rows_for_every_kind_of_model(kind: str) -> None:
    model = drawn(CONFIGS[kind])
    batch = next(iter(rows_to_compare(INPUTS, model.config, "cpu")))
    with torch.inference_mode():
        logits = model(batch).logits
    assert same_predictions(logits, logits, batch, model.config.head.kind).all()
