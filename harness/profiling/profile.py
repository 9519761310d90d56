"""The profile of an artifact: FLOPs, bytes, memory and latency, beside the baseline's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch.nn import Parameter

from harness.common.errors import SkylineError
from harness.common.hardware import hardware, versions
from harness.common.processes import run_isolated
from harness.models.artifacts import CONFIG, WEIGHTS, load_artifact, read_config
from harness.models.batch import Batch
from harness.models.flops.counting import FlopCount, Work, mean_flops
from harness.models.model import Model
from harness.models.shape_checks import check_length
from harness.profiling.costs.cached import with_cache
from harness.profiling.costs.components import (
    activation_bytes,
    component_params,
    component_weight_bytes,
    stored_params,
)
from harness.profiling.costs.kept import KeptCosts, contents, how, prepared, what, where
from harness.profiling.costs.memory import PeakMemory, measure_memory
from harness.profiling.inputs import Inputs
from harness.profiling.latency.agreement import measure_agreement
from harness.profiling.latency.paired import Speed, measure_speed
from harness.profiling.latency.pairs import PairedTimes, Plan
from harness.profiling.stopwatch import Stopwatch
from harness.records.schema import Component, Cost, Latency, Precision, Profile, Total, Workload
from harness.runtimes import Execution, get_runtime
from harness.runtimes.support import check_support

MEMORY_MARGIN = 0.02
"""A peak counts as lower from 2 % on: two runs of one artifact differ by less."""


_Counted = tuple[FlopCount, list[dict[str, int]]]
"""Work of a pass, and each pass's activation bytes by component."""


@dataclass(frozen=True)
class StaticCosts:
    """Costs that need no timing, by component where they are dictionaries."""

    work: FlopCount
    params: dict[str, int]
    stored_params: int
    weight_bytes: dict[str, int]
    activation_bytes: dict[str, int]


def profile_artifact(
    folder: Path,
    baseline: Path,
    *,
    recipe: str,
    model: str,
    weights: str,
    workload: Workload,
    runtime: str = "eager",
    precision: Precision = "float32",
    device: str = "cpu",
    time_cap_s: float = 20.0,
    real_batches: Batch | None = None,
    timed: Callable[[Speed], None] | None = None,
    earlier: PairedTimes | None = None,
    share: float = 1.0,
    kept: KeptCosts | None = None,
    watch: Stopwatch | None = None,
) -> Profile:
    """Measure an artifact under one runtime, precision, device and workload, and its baseline, under the same in
    float32.

    Every measurement runs in a fresh process of its own; this one only waits. `weights` says which weights
    the model has; real inputs come as one batch of rows, from which each pass takes its number; `timed` is given
    the run against the baseline under the same runtime, with its passes, which no profile holds. `earlier` sittings of
    that run (see `latency.sittings`) are counted in, and it takes a `share` of the time cap. What is `kept`
    of the baseline's costs and of those that are counted is not measured again; `watch` is told what the time went to.
    Raises SkylineError before anything is timed where the workload does not fit the models, runtime or device are
    not there, the runtime cannot run the artifact (`Unsupported`), or does not answer as eager does.
    """
    engine = get_runtime(runtime)
    if time_cap_s <= 0:
        raise SkylineError(f"a time cap of {time_cap_s:g} s is out of range; use more than 0")
    artifact = read_config(folder)
    check_support(engine, precision, device, workload, artifact.model, artifact.kernels)
    check_length(workload.length, read_config(baseline).model.positions)
    inputs = Inputs.of(workload, real_batches)
    plan = Plan(cap_s=time_cap_s)
    last = replace(plan, cap_s=share * time_cap_s)
    watch = watch or Stopwatch()
    with tempfile.TemporaryDirectory(prefix="skyline-") as temporary, ExitStack() as stack:
        kept = kept or stack.enter_context(KeptCosts(Path(temporary)))
        candidate = Execution(folder.resolve(), runtime, device, precision)
        reference = Execution(baseline.resolve(), runtime, device)
        itself = candidate == reference
        # The baseline's is of use for other candidates, the candidate's for nobody else.
        with watch.on("making"):
            reference = kept.prepared(reference, workload.length)
            elsewhere = Path(temporary) / "candidate"
            candidate = reference if itself else prepared(candidate, workload.length, elsewhere)
        agreement = measure_agreement(candidate, inputs, watch=watch)
        speed = measure_speed(
            candidate, reference, inputs, plan=last, ceilings=True, earlier=earlier, watch=watch
        )
        if timed is not None:
            timed(speed)
        over_eager = None
        if runtime != "eager":
            plain = replace(reference, runtime="eager", prepared=None)
            over_eager = measure_speed(
                candidate, plain, inputs, plan=plan, components=False, watch=watch
            ).latency
        own = _Measured.of(candidate, inputs, kept, watch)
        base = own if itself else _Measured.of(reference, inputs, kept, watch, again=False)
    total = own.total(speed.latency.median_ms, speed)
    return Profile(
        recipe=recipe,
        model=model,
        weights=weights,
        runtime=runtime,
        precision=precision,
        device=device,
        workload=workload,
        components=own.components(speed),
        total=total,
        latency=speed.latency,
        over_eager=over_eager,
        agreement=agreement,
        ceilings=speed.ceilings,
        baseline=base.total(speed.latency.baseline_median_ms),
        realised=realised(own, base, speed.latency, itself),
        hardware=hardware(device),
        versions=versions() | engine.versions(),
    )


@dataclass(frozen=True)
class _Measured:
    """All costs of one artifact except its speed."""

    disk_bytes: int
    static: StaticCosts
    memory: PeakMemory

    @classmethod
    def of(
        cls, execution: Execution, inputs: Inputs, kept: KeptCosts, watch: Stopwatch, again: bool = True
    ) -> _Measured:
        """Measure an artifact's memory, unless it is kept and not wanted `again`; what is counted is counted once."""
        disk_bytes = sum((execution.folder / name).stat().st_size for name in (CONFIG, WEIGHTS))
        same = {**_counted_for(execution.folder, inputs), **how(execution), **where(execution.device)}
        with ThreadPoolExecutor(1) as beside:
            # Neither is timed, and no process adds to another's memory.
            static = beside.submit(count_once, execution.folder, inputs, kept)
            memory = None if again else kept.recall(PeakMemory, same)
            if memory is None:
                with watch.on("making"):
                    narrow = kept.narrow(execution)
                memory = kept.keep(measure_memory(execution, inputs, narrow=narrow, watch=watch), same)
            return cls(disk_bytes, static.result(), memory)

    def total(self, latency_ms: float, speed: Speed | None = None) -> Total:
        timed = speed.components if speed is not None else None
        return Total(
            params=sum(self.static.params.values()),
            flops=self.static.work.total.flops,
            macs=self.static.work.total.macs,
            elementwise_flops=self.static.work.total.elementwise_flops,
            weight_bytes=sum(self.static.weight_bytes.values()),
            activation_bytes=sum(self.static.activation_bytes.values()),
            latency_ms=latency_ms,
            disk_bytes=self.disk_bytes,
            peak_memory_bytes=self.memory.resident,
            accelerator_memory_bytes=self.memory.accelerator,
            residual_pct=None if timed is None else 100 * timed.residual,
            mean_depth=self.static.work.mean_depth,
            uncounted_operators=list(self.static.work.uncounted),
        )

    def components(self, speed: Speed) -> list[Component]:
        """A component's time is its share of the uninstrumented pass, times that pass's median."""
        timed, static = speed.components, self.static
        return [
            Component(
                name=name,
                params=static.params[name],
                flops=static.work.components.get(name, Work()).flops,
                elementwise_flops=static.work.components.get(name, Work()).elementwise_flops,
                weight_bytes=static.weight_bytes[name],
                activation_bytes=static.activation_bytes[name],
                latency_ms=None if timed is None else timed.shares[name] * speed.latency.median_ms,
            )
            for name in static.params
        ]


def _counted_for(folder: Path, inputs: Inputs) -> dict[str, Any]:
    return {"artifact": contents(folder), **what(inputs)}


def count_once(folder: Path, inputs: Inputs, kept: KeptCosts) -> StaticCosts:
    """The costs of an artifact that need no timing: those that are `kept`, or counted in a process of its own."""
    count = partial(run_isolated, static_costs, folder, inputs)
    return kept.once(StaticCosts, {**_counted_for(folder, inputs), "versions": versions()}, count)


def static_costs(folder: Path, inputs: Inputs) -> StaticCosts:
    """FLOPs, parameters, stored and activation bytes by component, of one pass: the mean where there are several
    inputs.
    """
    model = load_artifact(folder)
    stored = stored_params(model, folder)
    batches = inputs.batches(model.config.vocab_size)
    run, own = with_cache(model, batches, inputs.workload.cached)
    counted = _counted_on_shapes(model, batches) if run is model else None
    work, activations = counted or _counted(run, own)
    return StaticCosts(
        work=work,
        params=component_params(model),
        stored_params=stored,
        weight_bytes=component_weight_bytes(model, folder),
        activation_bytes={
            name: round(sum(each[name] for each in activations) / len(activations)) for name in activations[0]
        },
    )


def _counted_on_shapes(model: Model, batches: list[Batch]) -> _Counted | None:
    """What `_counted` says, from the shapes alone, however long the passes would take. None where what is computed
    depends on values, as where rows leave early.
    """
    if getattr(model.config, "exit_rule", None) is not None:
        return None
    try:
        return _counted(_without_weights(model), [batch.to("meta") for batch in batches])
    except RuntimeError:  # it asks for a value; NotImplementedError is one of these
        return None


def _without_weights(model: Model) -> Model:
    """A copy on the meta device, whose tensors have shapes alone."""
    known: dict[int, Any] = {id(model.tokenizer): model.tokenizer}
    known |= {id(parameter): Parameter(parameter.to("meta"), False) for parameter in model.parameters()}
    known |= {id(buffer): buffer.to("meta") for buffer in model.buffers()}
    return deepcopy(model, known)


def _counted(model: Model, batches: list[Batch]) -> _Counted:
    return mean_flops(model, batches), [activation_bytes(model, batch) for batch in batches]


def realised(own: _Measured, base: _Measured, latency: Latency, itself: bool = False) -> dict[Cost, bool]:
    """Which costs are really lower than the baseline's, as measured; none where the baseline is profiled
    itself.

    Disk: fewer bytes. Parameters: fewer stored ones. FLOPs: less matrix work. Latency: an interval of the
    speedup that lies above 1. Memory: a peak lower by more than 2 %.
    """
    lower: dict[Cost, bool] = {
        "disk": own.disk_bytes < base.disk_bytes,
        "parameters": own.static.stored_params < base.static.stored_params,
        "flops": own.static.work.total.macs < base.static.work.total.macs,
        "latency": faster(latency),
        "memory": own.memory.resident < (1 - MEMORY_MARGIN) * base.memory.resident,
    }
    return {cost: is_lower and not itself for cost, is_lower in lower.items()}


def faster(latency: Latency) -> bool:
    """Whether there is a verdict, and its interval lies above 1."""
    return latency.verdict == "measured" and latency.speedup_ci95 is not None and latency.speedup_ci95[0] > 1
