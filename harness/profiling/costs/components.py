"""Costs of each component of a model: parameters, stored bytes, activation bytes, and its share of a pass's time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from harness.common.errors import Code, SkylineError
from harness.models.artifacts import WEIGHTS, EncodedWeights, read_config
from harness.models.batch import Batch
from harness.models.codecs import Codec
from harness.models.encoder.encoder import run_to_depth
from harness.models.factory import make_model
from harness.models.initialization import without_weights
from harness.models.model import Model
from harness.profiling.latency.timers import Disturbance, time_on_cpu, time_on_cuda
from harness.runtimes import Executable

if TYPE_CHECKING:
    from harness.models.encoder.encoder import Encoder

FEWEST_ROUNDS, MOST_ROUNDS = 5, 40
"""Rounds of `time_components`, each of one plain and one instrumented pass."""


def component_names(model: Model) -> list[str]:
    """Return the components of a model, in the order in which a pass first reaches them."""
    return list(dict.fromkeys(component for component, _, _ in model.components()))


def _owners(model: Model) -> dict[str, str]:
    """Map each module's path to its component; a shared module has only its first path."""
    owners, seen = dict[str, str](), set[int]()
    for component, path, module in model.components():
        if id(module) not in seen:
            seen.add(id(module))
            owners[path] = component
    return owners


def component_params(model: Model) -> dict[str, int]:
    """Count the parameters of each component, shared ones once.

    Pruned weights and the codes of word embeddings count; scales and masks do not.
    """
    with without_weights():
        dense = make_model(model.config)  # in a loaded artifact, int8 modules hold weights in other forms
    counts = dict.fromkeys(component_names(model), 0)
    owners = _owners(dense)
    for name, tensor in dense.contents().items():
        counts[_component_of(name, owners)] += tensor.numel()
    return counts


def component_weight_bytes(model: Model, folder: Path) -> dict[str, int]:
    """Count the bytes that an artifact stores for each component: values, scales and masks."""
    counts = dict.fromkeys(component_names(model), 0)
    owners = _owners(model)
    for name, stored in stored_tensors(folder).items():
        counts[_component_of(name, owners)] += stored.nbytes
    return counts


def _component_of(name: str, owners: dict[str, str]) -> str:
    for path, component in owners.items():
        if name.startswith(f"{path}."):
            return component
    raise SkylineError(
        f"tensor '{name}' belongs to no component of the model; make the artifact again", Code.DAMAGED
    )


@dataclass(frozen=True)
class StoredTensor:
    """The number of values of a tensor in an artifact, and its bytes."""

    values: int
    nbytes: int


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Read each tensor's size from the header of an artifact's safetensors file, without loading it.

    Raises SkylineError (`UNREADABLE`) if the file cannot be opened or its header cannot be parsed.
    """
    path = folder / WEIGHTS
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
        return {
            name: StoredTensor(prod(e["shape"]), e["data_offsets"][1] - e["data_offsets"][0])
            for name, e in entries
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise SkylineError(
            f"{path} cannot be read ({error}); make the artifact again", Code.UNREADABLE
        ) from None


def stored_params(model: Model, folder: Path) -> int:
    """Count the parameters that an artifact stores, without those that a codec omits (zeros under a bitmask)."""
    with without_weights():
        dense = make_model(model.config)
    shapes = {name: tensor.shape for name, tensor in dense.contents().items()}
    codecs = model.storage.codecs
    if not any(stage.order > 0 for codec in codecs.values() for stage in codec.stages):
        return sum(shape.numel() for shape in shapes.values())
    return sum(
        codecs.get(name, Codec()).kept(encoded, shapes[name])
        for name, encoded in EncodedWeights(folder, read_config(folder), shapes)
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def _memory_of(tensor: Tensor) -> int:
    """Identify a tensor's memory, also on the meta device, where tensors have no address."""
    return int(tensor.untyped_storage()._cdata)


def activation_bytes(model: Model, batch: Batch, depth: int | None = None) -> dict[str, int]:
    """Count the bytes of the tensors that each component's modules return in one pass over `batch`.

    With `depth`, for an encoder with exit ramps, every row exits after so many layers.

    The outputs of a component's innermost modules and of the component itself count, each memory once: a view, or a
    module that returns its input, adds nothing. A component that runs in every layer counts each time.
    """
    counts = dict.fromkeys(component_names(model), 0)
    # Tensors of the running component are kept alive, so that reused memory does not look like a view.
    alive: list[Tensor] = []
    handles = []

    def enter(_: nn.Module, args: Any) -> None:
        alive[:] = _tensors(args)

    def count(component: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, args: Any, output: Any) -> None:
            known = {_memory_of(tensor) for tensor in [*alive, *_tensors(args)]}
            for tensor in _tensors(output):
                if _memory_of(tensor) not in known:
                    counts[component] += tensor.numel() * tensor.element_size()
                    known.add(_memory_of(tensor))
                    alive.append(tensor)

        return hook

    owners = _owners(model)
    for path, component in owners.items():
        module = model.get_submodule(path)
        handles.append(module.register_forward_pre_hook(enter))
        leaves = [m for m in module.modules() if m is not module and next(m.children(), None) is None]
        handles += [leaf.register_forward_hook(count(component)) for leaf in leaves]
        handles.append(module.register_forward_hook(count(component)))
    try:
        with torch.inference_mode():
            if depth is None:
                model(batch)
            else:
                run_to_depth(cast("Encoder", model), batch, depth)
    finally:
        for handle in handles:
            handle.remove()
    return counts


@dataclass(frozen=True)
class ComponentTimes:
    """Time of each component as a share of a plain pass: medians over `rounds`."""

    shares: dict[str, float]
    rounds: int

    @property
    def residual(self) -> float:
        """1 less the sum of the shares: work between components (the mask, the layers' calls), less the hooks' cost.

        It is negative if the instrumented components took longer than the plain pass.
        """
        return 1 - sum(self.shares.values())


def time_components(
    run: Executable, batches: Batch | Sequence[Batch], cap_s: float = 6.0, seed: int = 0
) -> ComponentTimes:
    """Time the components of a loaded model as shares of a plain pass.

    Each round is a plain pass over all batches and an instrumented one, in drawn order; in the latter, hooks read the
    clock before and after each component. Disturbed rounds are left out if at least five others remain. It takes about
    `cap_s` seconds, but at least five rounds. Raises ValueError if the runtime does not show its model.
    """
    if run.model is None:
        raise ValueError("this runtime does not show its components")
    batches = [batches] if isinstance(batches, Batch) else batches
    cuda = batches[0].input_ids.is_cuda
    time_pass = time_on_cuda if cuda else time_on_cpu
    spans = _CudaSpans() if cuda else _Spans()
    disturbance, rng = Disturbance(), np.random.default_rng(seed)
    rounds: list[tuple[bool, dict[str, float]]] = []

    def plainly() -> float:
        return sum(time_pass(run, batch) for batch in batches)

    def instrumented(model: Model) -> None:
        with spans.on(model):
            for batch in batches:
                run(batch)

    for _ in range(2):
        plainly()
        instrumented(run.model)
    began = time.perf_counter()
    while len(rounds) < FEWEST_ROUNDS or (time.perf_counter() - began < cap_s and len(rounds) < MOST_ROUNDS):
        plain_first = rng.random() < 0.5
        disturbance.start()
        round_began = time.perf_counter()
        plain = plainly() if plain_first else 0.0
        instrumented(run.model)
        plain = plain if plain_first else plainly()
        disturbed = disturbance.disturbed(time.perf_counter() - round_began)
        rounds.append((disturbed, {name: seconds / plain for name, seconds in spans.seconds().items()}))
    clean = [shares for disturbed, shares in rounds if not disturbed]
    used = clean if len(clean) >= FEWEST_ROUNDS else [shares for _, shares in rounds]
    shares = {
        name: float(np.median([shares[name] for shares in used])) for name in component_names(run.model)
    }
    return ComponentTimes(shares, len(used))


class _Spans:
    """Sums the wall time between the hooks before and after each component."""

    def __init__(self) -> None:
        self._marks: list[tuple[str, Any, Any]] = []
        self._names: list[str] = []
        self._entered: Any = None

    def _now(self) -> Any:
        return time.perf_counter_ns()

    def _between(self, start: Any, end: Any) -> float:
        return float(end - start) * 1e-9

    @contextmanager
    def on(self, model: Model) -> Iterator[None]:
        """Instrument the model's components during the block, and restart the sums."""
        self._marks, self._names = [], component_names(model)
        handles = []

        def enter(*_: Any) -> None:
            self._entered = self._now()

        def leave(component: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(*_: Any) -> None:
                self._marks.append((component, self._entered, self._now()))

            return hook

        for path, component in _owners(model).items():
            module = model.get_submodule(path)
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave(component)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each component in the last instrumented block."""
        sums = dict.fromkeys(self._names, 0.0)
        for component, start, end in self._marks:
            sums[component] += self._between(start, end)
        return sums


class _CudaSpans(_Spans):
    """Does the same with CUDA events, whose times the device takes."""

    def _now(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _between(self, start: Any, end: Any) -> float:
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3
