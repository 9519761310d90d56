"""The cost of early exit: the work of a batch depends on the depths at which its rows leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.common.errors import Code
from harness.common.processes import run_isolated
from harness.conformance.tiny import tiny_encoder, tiny_task
from harness.models.artifacts import save_artifact
from harness.models.batch import Batch
from harness.models.config import COMPONENTS, EncoderConfig, ExitRule, student_size
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.exits import entropy
from harness.models.flops.counting import count_flops
from harness.models.flops.exits import row_macs
from harness.models.surgery import add_exits
from harness.profiling.inputs import REAL_ROWS, Inputs, encoded_split, make_workload
from harness.profiling.profile import profile_artifact
from harness.records.cells import ProfileCell
from harness.runs.planning import resolve_cells
from harness.runs.profile_run import real_inputs
from harness.runs.suites import Experiment, Suite
from harness.runtimes.eager import EagerRuntime
from harness.tasks import load_task
from tests.support.one_line_errors import refused

HIDDEN, FFN, CLASSES = 24, 40, 3
PLAIN = EncoderConfig.bert(4, HIDDEN, heads=2, ffn=FFN, vocab_size=50, positions=32).with_head(
    "classification", CLASSES
)

RULE = ExitRule(kind="entropy", threshold=1.05)


def oracle(ramp: str, n: int, depth: int) -> int:
    """Count the multiply-adds of a row of n tokens that leaves after `depth` of four layers."""
    layer = n * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * FFN) + 2 * n * n * HIDDEN
    pooled = HIDDEN * HIDDEN + HIDDEN * CLASSES
    size = student_size(HIDDEN)
    narrow = n * HIDDEN * size + 2 * n * size * size + 3 * size * size + 2 * n * size + size * CLASSES
    ramps = (narrow if ramp == "student" else pooled) * min(depth, 3)
    return depth * layer + ramps + (pooled if depth == 4 else 0)


def encoder(ramp: Any, rule: ExitRule | None = None) -> Encoder:
    config = PLAIN.with_exits(ramp, rule)
    model = Encoder(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4, generator=generator)
    return model.eval()


@pytest.mark.parametrize("ramp", ["pooler", "linear", "student"])
def test_costs_by_depth_are_the_closed_form(ramp: str) -> None:
    model = encoder(ramp, RULE)
    batch = Batch.synthetic(3, 9, 50)
    for depth in (1, 2, 3, 4):
        assert count_flops(model, batch, depth).total.macs == 3 * oracle(ramp, 9, depth)
    lengths = [5, 9, 31, 17, 9, 6]
    for depth, macs in row_macs(model.config, lengths).items():
        assert macs.tolist() == pytest.approx([oracle(ramp, n, depth) for n in lengths], rel=1e-9)


def test_an_encoder_without_ramps_has_one_depth() -> None:
    found = row_macs(PLAIN, [7])
    assert list(found) == [4]
    assert found[4].tolist() == [count_flops(Encoder(PLAIN), Batch.synthetic(1, 7, 50)).total.macs]


@pytest.mark.parametrize("ramp", ["pooler", "linear", "student"])
@pytest.mark.parametrize(
    "rule",
    [
        *(ExitRule(kind="entropy", threshold=threshold) for threshold in (0.0, 0.7, 1.05, 2.0)),
        *(ExitRule(kind="patience", threshold=patience) for patience in (1, 2)),
    ],
)
def test_a_batch_costs_what_its_rows_do(ramp: str, rule: ExitRule) -> None:
    """Ramps at which no row leaves count too."""
    model, batch = encoder(ramp, rule), Batch.synthetic(6, 9, 50)
    with torch.inference_mode():
        depths = model(batch).depths
    count = count_flops(model, batch)
    assert count.total.macs == sum(oracle(ramp, 9, depth) for depth in depths.tolist())
    assert sum(work.macs for work in count.components.values()) == count.total.macs
    assert tuple(count.components) == COMPONENTS
    assert count.uncounted == ()


def test_rows_of_a_task_are_spread_over_its_lengths(tmp_path: Path) -> None:
    save_artifact(tiny_encoder(), tmp_path / "a")
    texts = [example.text for example in tiny_task().dev()]
    split = encoded_split(tmp_path / "a", texts, None, make_workload(64, 1, "real"))
    every = tiny_encoder().encode(texts).attention_mask.sum(1).tolist()
    assert split.attention_mask.sum(1).tolist() == every

    def chosen(batch: int) -> list[int]:
        rows = Inputs.of(make_workload(64, batch, "real"), split).rows
        assert rows is not None
        return [int(tokens) for tokens in rows[1].sum(1)]

    assert len(chosen(1)) == REAL_ROWS < len(texts)
    assert chosen(1) == sorted(chosen(1), reverse=True)
    assert sum(chosen(1)) / REAL_ROWS == pytest.approx(sum(every) / len(every), rel=0.05)
    assert len(chosen(20)) == 60
    with refused(Code.NO_DATA, "100", "64"):
        chosen(100)


def cell(recipe: str = "baseline", **other: Any) -> ProfileCell:
    given = {"model": "tiny", "task": "toy-sentiment", "workload": make_workload(16, 1, "real"), **other}
    return ProfileCell(recipe=recipe, **given)


def test_a_cells_real_inputs_are_of_its_tasks_dev_split(tmp_path: Path) -> None:
    save_artifact(tiny_encoder(), tmp_path / "a")
    batch = Batch.of_arrays(run_isolated(real_inputs, tmp_path / "a", cell(), None))
    assert batch.input_ids.shape[1] <= 16
    every = tiny_encoder().encode([example.text for example in load_task("toy-sentiment").dev()], None, 16)
    assert batch.input_ids.tolist() == every.input_ids.tolist()
    with refused("real inputs"):
        real_inputs(tmp_path / "a", cell(task=None), None)


def test_the_profile_is_of_the_depths_that_real_rows_take(tmp_path: Path) -> None:
    model = add_exits(tiny_encoder(), "pooler", torch.Generator().manual_seed(0)).eval()
    save_artifact(tiny_encoder(), tmp_path / "tiny")
    texts = [example.text for example in tiny_task().dev()[:12]]
    workload = make_workload(64, 1, "real")
    rows = encoded_split(tmp_path / "tiny", texts, None, workload)
    with torch.inference_mode():
        first = entropy(model(rows).exits[0]).sort().values
    # Half of the rows leave at the first ramp.
    model.config = model.config.with_exit_rule(ExitRule(kind="entropy", threshold=float(first[5:7].mean())))
    save_artifact(model, tmp_path / "tiny-exits")
    found = profile_artifact(
        tmp_path / "tiny-exits",
        tmp_path / "tiny",
        recipe="deebert",
        model="tiny",
        weights="random",
        workload=workload,
        time_cap_s=0.5,
        real_batches=rows,
    )
    lengths = rows.attention_mask.sum(1).tolist()
    with torch.inference_mode():
        depths = model(rows).depths.tolist()
    assert len(set(depths)) > 1
    costs, base = row_macs(model.config, lengths), row_macs(tiny_encoder().config, lengths)[4]
    mean = sum(costs[depth][row] for row, depth in enumerate(depths)) / len(rows)
    assert found.total.macs == pytest.approx(mean, abs=1)
    assert found.baseline is not None
    assert found.baseline.macs == pytest.approx(base.mean(), abs=1)
    assert [component.name for component in found.components] == list(COMPONENTS)
    assert all(component.activation_bytes > 0 for component in found.components)
    assert found.total.mean_depth == pytest.approx(sum(depths) / len(depths))
    assert found.baseline.mean_depth is None
    assert found.realised["flops"]
    assert found.total.uncounted_operators == []


def test_a_runtime_that_cannot_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "exits"
    save_artifact(encoder("pooler", RULE), folder)
    monkeypatch.setattr(EagerRuntime, "exits_early", False)
    asked: dict[str, Any] = {"recipe": "r", "model": "m", "weights": "w", "workload": make_workload(8, 1)}
    with refused(Code.UNSUPPORTED, "'eager'"):
        profile_artifact(folder, folder, **asked)
    (job,) = resolve_cells([cell("deebert", model="minilm-l6")])
    assert "runtime 'eager' cannot let rows exit early" in (job.unsupported or "")


def test_suites_ask_for_real_inputs_where_the_cost_depends_on_them() -> None:
    experiment = Experiment(tasks=("toy-sentiment",), recipes=("deebert:speed=3", "magnitude"))

    def inputs(asked: Experiment) -> dict[str, str]:
        cells = Suite(title="t", experiments=(asked,)).cells()
        return {c.recipe: c.workload.inputs for c in cells if isinstance(c, ProfileCell)}

    own = {"baseline": "synthetic", "deebert:speed=3.0": "real", "magnitude": "synthetic"}
    assert inputs(experiment) == own
    assert inputs(experiment.model_copy(update={"inputs": "real"})) == dict.fromkeys(own, "real")
