"""CUDA graphs: shapes, memory and refusals with a recorder that stands in for the device's; on a device, eager's
logits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.common.errors import Code, Unsupported
from harness.common.hardware import hardware
from harness.models.batch import Batch
from harness.models.config import ExitRule
from harness.records.cells import ProfileCell
from harness.records.schema import Workload
from harness.runs import job, resolution
from harness.runtimes import Execution, get_runtime, load, refused_exits
from harness.runtimes.cuda_graphs import RecordedPasses
from tests.support.one_line_errors import refused
from tests.support.runtime_models import CONFIGS, LAYER, PLAIN, batch_of, drawn, encoder, saved

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
EXITS = encoder(
    LAYER.model_copy(update={"exit": "pooler"}), LAYER, exit_rule=ExitRule(kind="entropy", threshold=0.5)
)


class Recorder:
    """Replays like a device: computes the pass again, from the same memory into the same memory."""

    def __init__(self) -> None:
        self.recorded = self.launched = 0

    def __call__(self, run: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        self.recorded += 1
        output = run()

        def launch() -> None:
            self.launched += 1
            output.copy_(run())

        return launch, output


def test_it_runs_on_cuda_alone() -> None:
    with refused(Code.CONFLICT, "'cuda-graphs'", "cpu", "use cuda"):
        get_runtime("cuda-graphs").require("cpu")
    for device in ("cuda", "cuda:1"):
        get_runtime("cuda-graphs").require(device)


def test_it_loads_nothing_elsewhere(tmp_path: Path) -> None:
    folder = saved(drawn(PLAIN), tmp_path / "a")
    with refused(Code.CONFLICT, "cpu"):
        load(Execution(folder, "cuda-graphs", "cpu"))


def test_rows_that_leave_early_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = refused_exits(get_runtime("cuda-graphs"), EXITS)
    assert reason is not None
    assert "use compile or eager" in reason
    monkeypatch.setattr("harness.runtimes.cuda_graphs.check_device", lambda device: None)
    folder = saved(drawn(EXITS), tmp_path / "exits")
    with refused(Code.UNSUPPORTED, reason):
        load(Execution(folder, "cuda-graphs", "cuda"))


def test_a_plan_knows_that_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    here = hardware()
    monkeypatch.setattr(resolution, "hardware", lambda device: here)
    monkeypatch.setattr("harness.runtimes.support.check_device", lambda device: None)
    resolver = resolution.Resolver()
    workload = Workload(batch=1, length=16)
    cell = ProfileCell(
        recipe="deebert:threshold=0.3",
        model="tiny",
        runtime="cuda-graphs",
        device="cuda",
        workload=workload,
    )
    assert isinstance(refusal := job.supports(resolver.job(cell)), Unsupported)
    assert "cannot let rows exit early" in str(refusal)
    assert job.supports(resolver.job(cell.model_copy(update={"recipe": "baseline"}))) is None


def test_each_shape_is_recorded_once() -> None:
    model, recorder = drawn(PLAIN).eval(), Recorder()
    run = RecordedPasses(lambda batch: model(batch).logits, recorder)
    batches = [batch_of([9, 4, 17]), batch_of([17, 2, 8]), batch_of([20]), batch_of([12, 17, 3])]
    for batch in [*batches, *reversed(batches)]:
        with torch.inference_mode():
            expected = model(batch).logits
        assert torch.equal(run(batch), expected)
    # The shapes are (3, 17) and (1, 20).
    assert (recorder.recorded, recorder.launched) == (2, 8)


def test_results_outlive_the_next_pass_and_inputs_stay() -> None:
    model = drawn(PLAIN).eval()
    run = RecordedPasses(lambda batch: model(batch).logits, Recorder())
    one, other = batch_of([9, 4]), batch_of([9, 7])
    first = run(one)
    kept, ids = first.clone(), one.input_ids.clone()
    assert not torch.equal(run(other), kept)
    assert torch.equal(first, kept)
    assert torch.equal(one.input_ids, ids)


def test_what_cannot_be_recorded_says_why_and_is_tried_anew() -> None:
    tries: list[Batch] = []

    def asks_the_device(batch: Batch) -> Tensor:
        tries.append(batch)
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nCompile with …")

    run = RecordedPasses(asks_the_device, Recorder())
    for _ in range(2):
        with refused(Code.UNSUPPORTED, "(CUDA error: operation not permitted when stream is capturing)"):
            run(batch_of([5]))
    assert len(tries) == 2


def test_out_of_memory_stays_what_it_is() -> None:
    def exhausts(batch: Batch) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        RecordedPasses(exhausts, Recorder())(batch_of([5]))


@cuda
@pytest.mark.parametrize("kind", CONFIGS)
def test_logits_on_a_device_are_eagers(kind: str, tmp_path: Path) -> None:
    folder = saved(drawn(CONFIGS[kind]), tmp_path / "a")
    eager, recorded = (load(Execution(folder, name, "cuda")) for name in ("eager", "cuda-graphs"))
    assert recorded.model is None
    for batch in (batch_of([9, 4, 17]), batch_of([20]), batch_of([17, 3, 8])):
        try:
            found = recorded(batch.to("cuda"))
        except Unsupported:
            assert kind != "plain"
            pytest.skip("this model asks the device for numbers")
        assert float((found - eager(batch.to("cuda"))).abs().max()) < 1e-4
