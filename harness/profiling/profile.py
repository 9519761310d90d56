"""The profile of an artifact: FLOPs, bytes, memory and latency, with the baseline's for comparison."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.common.errors import Code, SkylineError
from harness.common.hardware import hardware, versions
from harness.common.processes import run_isolated
from harness.models.artifacts import CONFIG, WEIGHTS, load_artifact, read_config
from harness.models.batch import Batch
from harness.models.flops.counting import FlopCount, Work
from harness.models.shape_checks import check_length
from harness.profiling.costs import counted
from harness.profiling.costs.components import component_params, component_weight_bytes, stored_params
from harness.profiling.costs.kept import KeptCosts, contents, execution_key, inputs_key, machine_key
from harness.profiling.costs.memory import PeakMemory, measure_memory, memory_floor
from harness.profiling.inputs import Inputs
from harness.profiling.latency.agreement import measure_agreement
from harness.profiling.latency.chained import chained
from harness.profiling.latency.paired import Speed, measure_speed
from harness.profiling.latency.pairs import PairedTimes, Plan
from harness.profiling.stopwatch import Stopwatch
from harness.records.costs import Cost
from harness.records.schema import Component, Latency, Precision, Profile, Total, Workload
from harness.runtimes import Execution, get_runtime
from harness.runtimes.support import check_support

FULL_CAP_S = 5.0
"""Time caps below this leave out component times and the machine's ceilings: they would take longer than the pairs."""


@dataclass(frozen=True)
class StaticCosts:
    """Costs that are counted, not timed. The dictionaries are by component."""

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
    """Measure an artifact under one runtime, precision, device and workload, and its baseline under the same in
    float32.

    Every measurement runs in a fresh process, and this one waits. `weights` names the weights that the model has.
    `real_batches` holds all rows of a workload with real inputs. `timed` is called with the paired run against the
    baseline, whose single passes no profile holds. That run continues `earlier` sittings (see `latency.sittings`) and
    takes a `share` of the time cap. Costs that `kept` holds are not measured again. `watch` books the time.

    Raises SkylineError before anything is timed if the workload does not fit the models, the runtime or device is
    missing, the runtime cannot run the artifact (`Unsupported`), or its answers differ from eager's (see
    `latency.agreement`).
    """
    engine = get_runtime(runtime)
    if time_cap_s <= 0:
        raise SkylineError(
            f"a time cap of {time_cap_s:g} s is out of range; use more than 0", Code.OUT_OF_RANGE
        )
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
        with watch.on("making"):
            reference = kept.prepared(reference, workload.length)
            candidate = reference if itself else kept.prepared(candidate, workload.length)
        agreement = measure_agreement(candidate, inputs.timed, watch=watch)
        speed = measure_speed(
            candidate,
            reference,
            inputs.timed,
            plan=last,
            components=time_cap_s >= FULL_CAP_S,
            ceilings=time_cap_s >= FULL_CAP_S,
            earlier=earlier,
            watch=watch,
        )
        if timed is not None:
            timed(speed)
        over_eager = None
        if runtime != "eager":
            of_baseline = _baseline_over_eager(reference, inputs.timed, plan, kept, watch)
            over_eager = of_baseline if itself else chained(speed.latency, of_baseline)
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
        memory_floor=memory_floor(own.memory, base.memory),
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
        """Measure an artifact. Kept counts are used; kept memory is too, unless it is wanted `again`."""
        disk_bytes = sum((execution.folder / name).stat().st_size for name in (CONFIG, WEIGHTS))
        key = _measured_key(execution, inputs.timed)
        with ThreadPoolExecutor(1) as counting:
            # Both may run at once: neither is timed, and the processes share no memory.
            static = counting.submit(count_once, execution.folder, inputs, kept)
            memory = None if again else kept.recall(PeakMemory, key)
            if memory is None:
                memory = kept.keep(measure_memory(execution, inputs.timed, watch=watch), key)
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
            memory_samples=list(self.memory.samples),
            accelerator_memory_bytes=self.memory.accelerator,
            residual_pct=None if timed is None else 100 * timed.residual,
            mean_depth=self.static.work.mean_depth,
            uncounted_operators=list(self.static.work.uncounted),
        )

    def components(self, speed: Speed) -> list[Component]:
        """A component's time is its share of a plain pass, times the median pass of the pairs."""
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


def _counts_key(folder: Path, inputs: Inputs) -> dict[str, Any]:
    return {"artifact": contents(folder), **inputs_key(inputs)}


def _measured_key(execution: Execution, inputs: Inputs) -> dict[str, Any]:
    return {
        **_counts_key(execution.folder, inputs),
        **execution_key(execution),
        **machine_key(execution.device),
    }


def _baseline_over_eager(
    reference: Execution, inputs: Inputs, plan: Plan, kept: KeptCosts, watch: Stopwatch
) -> Latency:
    """Compare the baseline under its runtime with itself under eager: once for all candidates, like its memory."""
    plain = replace(reference, runtime="eager", prepared=None)

    def measure() -> Latency:
        return measure_speed(reference, plain, inputs, plan=plan, components=False, watch=watch).latency

    return kept.once(Latency, {**_measured_key(reference, inputs), "cap_s": plan.cap_s}, measure)


def count_once(folder: Path, inputs: Inputs, kept: KeptCosts) -> StaticCosts:
    """Return the counted costs of an artifact from `kept`, or count them in another process and keep them."""
    count = partial(run_isolated, static_costs, folder, inputs)
    return kept.once(StaticCosts, {**_counts_key(folder, inputs), "versions": versions()}, count)


def static_costs(folder: Path, inputs: Inputs) -> StaticCosts:
    """Count the costs of an artifact. FLOPs and activation bytes are of one pass, the mean over the workload's."""
    model = load_artifact(folder)
    stored = stored_params(model, folder)
    work, activations = counted.count(model, inputs)
    return StaticCosts(
        work=work,
        params=component_params(model),
        stored_params=stored,
        weight_bytes=component_weight_bytes(model, folder),
        activation_bytes=activations,
    )


def realised(own: _Measured, base: _Measured, latency: Latency, itself: bool = False) -> dict[Cost, bool]:
    """Say for each cost whether it is measurably lower than the baseline's; for the baseline `itself` none is.

    Disk: fewer bytes. Parameters: fewer stored ones. FLOPs: fewer multiply-adds. Latency: the interval of the speedup
    lies above 1. Memory: the peak is lower by more than `memory_floor`.
    """
    lower: dict[Cost, bool] = {
        "disk": own.disk_bytes < base.disk_bytes,
        "parameters": own.static.stored_params < base.static.stored_params,
        "flops": own.static.work.total.macs < base.static.work.total.macs,
        "latency": faster(latency),
        "memory": own.memory.resident < (1 - memory_floor(own.memory, base.memory)) * base.memory.resident,
    }
    return {cost: is_lower and not itself for cost, is_lower in lower.items()}


def faster(latency: Latency) -> bool:
    """Whether there is a verdict and its interval lies above 1."""
    return latency.verdict == "measured" and latency.speedup_ci95 is not None and latency.speedup_ci95[0] > 1
