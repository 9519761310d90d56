"""The lock: what each method produced when its version was last raised, so that a change of it is seen.

`methods/lock.json` holds, for every method of this repository, its version and its behaviour: for each configuration
of its suite the artifact that the conformance suite's tiny training gives, as the skeleton of its configuration, the
losses of its trainings and its logits on eight sentences. An edit of any helper that changes a result shows there; a
renamed module does not.

Processors round sums differently, and a rounded weight that lies on an edge may fall on either side. So figures are
compared within a tolerance. `skyline lock` measures it: it trains once more from weights that differ by one part in a
million, which is more than another instruction set or number of threads does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

import methods
from harness.common.errors import Code, SkylineError, unknown_name
from harness.common.files import read_json, write_json
from harness.common.hashing import digest
from harness.compression.method import Method
from harness.compression.training import train
from harness.conformance.state import preserved
from harness.conformance.subject import Made, Subject
from harness.conformance.tiny import tiny_encoder, tiny_task
from harness.models.artifacts import load_artifact, read_config
from harness.recipes.discovery import Found, Registry
from harness.recipes.recipe import BASELINE
from harness.records.versions import TRAINING_VERSION

FILE = "lock.json"
LEAST_TOLERANCE = 2e-3
"""Of a figure, relative to the largest of its kind."""
MARGIN = 5.0
"""How many times as far as the farthest nudged run a figure may be from the locked one."""
SENTENCES = 8


@dataclass(frozen=True)
class Nudge:
    """Normal noise of relative `size` on the weights that a run begins with, drawn from `seed`."""

    size: float
    seed: int


NUDGES = (Nudge(1e-6, 1), Nudge(1e-6, 2), Nudge(3e-6, 3))
"""About what other instruction sets and numbers of threads do to sums, and a little more."""


class Behaviour(BaseModel):
    """What one configuration of a method made of the tiny encoder. Figures are rounded to seven digits.

    `shape` hashes the artifact's configuration and codecs without their real numbers, which `numbers` holds; `losses`
    are the last of each training; `logits` those of eight sentences, row by row. `refused`: the tiny encoder does not
    allow this configuration. `tolerance`: how far figures may be apart, relative to the largest of their kind.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: str = ""
    numbers: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()
    logits: tuple[float, ...] = ()
    refused: bool = False
    tolerance: float = LEAST_TOLERANCE

    def distance(self, other: Behaviour) -> float:
        """How far two behaviours are apart, relative to the largest figure of a kind; infinite where they differ in
        more than figures.
        """
        if (self.shape, self.refused) != (other.shape, other.refused):
            return float("inf")
        kinds = zip(
            (self.numbers, self.losses, self.logits), (other.numbers, other.losses, other.logits), strict=True
        )
        return max((_distance(ours, theirs) for ours, theirs in kinds), default=0.0)


class Locked(BaseModel):
    """A method's version, and its behaviour by configuration (a recipe's text)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    behaviour: dict[str, Behaviour]


class Lock(BaseModel):
    """The lock file: the plain training of the baseline, whose version is `TRAINING_VERSION`, and each method."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    baseline: Locked
    methods: dict[str, Locked]


def lock_file() -> Path:
    """Where the lock of this repository's methods is: beside them."""
    return Path(next(iter(methods.__path__))) / FILE


def read_lock(path: Path) -> Lock:
    """Read a lock file. Raises SkylineError where it is missing or not a lock."""
    try:
        return Lock.model_validate(read_json(path))
    except FileNotFoundError:
        raise SkylineError(f"there is no {path}; run 'skyline lock' to write it", Code.NOT_FOUND) from None
    except (OSError, ValueError) as error:
        line = str(error).splitlines()[0]
        raise SkylineError(f"{path} is not a lock ({line}); run 'skyline lock'", Code.DAMAGED) from None


def write_lock(path: Path, lock: Lock) -> None:
    """Write a lock file, methods in the order of their ids, each list of figures on one line."""
    ordered = lock.model_copy(update={"methods": dict(sorted(lock.methods.items()))})
    write_json(path, ordered.model_dump(mode="json", exclude_defaults=True))


def locked(method: type[Method] | None, path: Path | None = None) -> Locked:
    """The behaviour of a method (None: of the baseline) as it is now, with the tolerances that nudges ask for."""
    plain = behaviour_of(method, path)
    nudged = [behaviour_of(method, path, nudge) for nudge in NUDGES]
    return Locked(
        version=TRAINING_VERSION if method is None else method.card.version,
        behaviour={
            name: each.model_copy(update={"tolerance": _tolerance(each, [other[name] for other in nudged])})
            for name, each in plain.items()
        },
    )


def _tolerance(plain: Behaviour, nudged: Sequence[Behaviour]) -> float:
    apart = max(plain.distance(each) for each in nudged)
    return max(LEAST_TOLERANCE, float(f"{MARGIN * apart:.2g}"))


def behaviour_of(
    method: type[Method] | None, path: Path | None = None, nudge: Nudge | None = None
) -> dict[str, Behaviour]:
    """What the training alone (`method` None), or each configuration of a method's suite, makes of the tiny encoder."""
    subject = _Subject(method or Method, path, nudge)
    with subject:
        if method is None:
            return {BASELINE: _behaviour(subject.trained_baseline())}
        found = {}
        for stage in subject.configurations():
            try:
                found[str(stage)] = _behaviour(subject.run(stage, subject.again(subject.baseline)))
            except SkylineError:
                found[str(stage)] = Behaviour(refused=True)
        return found


class _Subject(Subject):
    """A method under test whose baseline, and so its teacher, begins with nudged weights."""

    def __init__(self, method: type[Method], path: Path | None, nudge: Nudge | None) -> None:
        super().__init__(method, path)
        self._nudge = nudge

    @cached_property
    def baseline(self) -> Made:
        encoder = tiny_encoder()
        if self._nudge is not None:
            generator = torch.Generator().manual_seed(self._nudge.seed)
            with torch.no_grad():
                for weight in encoder.parameters():
                    weight.mul_(1 + self._nudge.size * torch.randn(weight.shape, generator=generator))
        return self.save(encoder, [])

    def trained_baseline(self) -> Made:
        """The tiny encoder after the plain training."""
        encoder = self.again(self.baseline)
        with preserved():
            done = train(encoder, [], self.context(tiny_encoder()), BASELINE)
        return self.save(encoder, [done])


def _behaviour(made: Made) -> Behaviour:
    config = read_config(made.folder)
    numbers: list[float] = []
    parts = {
        "model": config.model.model_dump(mode="json"),
        "codecs": config.codecs,
        "kernels": config.kernels,
    }
    skeleton = _without_numbers(parts, numbers)
    model = load_artifact(made.folder)
    with preserved(), torch.inference_mode():
        texts = [example.text for example in tiny_task().dev()[:SENTENCES]]
        logits = model(model.encode(texts)).logits.double().flatten().tolist()
    return Behaviour(
        shape=digest(skeleton)[:16],
        numbers=_rounded(numbers),
        losses=_rounded([each.final_loss for each in made.training if each.final_loss is not None]),
        logits=_rounded(logits),
    )


def _without_numbers(value: Any, numbers: list[float]) -> Any:
    """JSON with its real numbers taken out, into `numbers`."""
    if isinstance(value, float):
        numbers.append(value)
        return "number"
    if isinstance(value, dict):
        return {name: _without_numbers(each, numbers) for name, each in sorted(value.items())}
    if isinstance(value, list):
        return [_without_numbers(each, numbers) for each in value]
    return value


def _rounded(values: list[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.7g}") for value in values)


def _distance(ours: tuple[float, ...], theirs: tuple[float, ...]) -> float:
    if len(ours) != len(theirs):
        return float("inf")
    largest = max((abs(value) for value in (*ours, *theirs)), default=0.0)
    apart = max((abs(one - other) for one, other in zip(ours, theirs, strict=True)), default=0.0)
    return apart / largest if largest else 0.0


def fault(lock: Lock, identity: str, found: Found | None) -> str | None:
    """Why a method (None: the baseline) does not fit the lock, in one line that says what to do; None where it does."""
    known = lock.baseline if found is None else lock.methods.get(identity)
    renew = f"run 'skyline lock {identity}'" if found is not None else "run 'skyline lock'"
    version = TRAINING_VERSION if found is None else found.method.card.version
    if known is None:
        return f"'{identity}' is not in the lock; {renew}"
    if version != known.version:
        return f"'{identity}' has version {version}, the lock {known.version}; {renew}"
    now = behaviour_of(None) if found is None else behaviour_of(found.method, found.path)
    if set(now) != set(known.behaviour):
        return f"the suite of '{identity}' changed; {renew}"
    changed = [
        name for name, each in known.behaviour.items() if not now[name].distance(each) <= each.tolerance
    ]
    if not changed:
        return None
    raised = "TRAINING_VERSION in harness/records/versions.py" if found is None else "its version"
    return f"what '{changed[0]}' produces changed: raise {raised}, or {renew} if it must not count"


def own_methods(registry: Registry) -> dict[str, Found]:
    """The methods of this repository, which are the ones that the lock holds."""
    return {
        identity: found
        for identity, found in registry.methods.items()
        if found.method.__module__.partition(".")[0] == "methods"
    }


def renewed(old: Lock | None, registry: Registry, identities: Sequence[str] = ()) -> Lock:
    """The lock with the named methods as they are now, all of them and the baseline where none is named; methods that
    are gone are left out.

    Raises SkylineError for a name that is not a method of this repository, and where the training's version changed
    but only some methods are named.
    """
    own = own_methods(registry)
    for identity in identities:
        if identity not in own:
            raise unknown_name("method of this repository", identity, own)
    if old is None or not identities:
        methods = {identity: locked(found.method, found.path) for identity, found in own.items()}
        return Lock(baseline=locked(None), methods=methods)
    if old.baseline.version != TRAINING_VERSION:
        raise SkylineError(
            f"the training has version {TRAINING_VERSION}, the lock {old.baseline.version}, so every method must be "
            "locked anew; run 'skyline lock' without names",
            Code.WRONG_VERSION,
        )
    kept = {identity: each for identity, each in old.methods.items() if identity in own}
    new = {identity: locked(own[identity].method, own[identity].path) for identity in identities}
    return old.model_copy(update={"methods": kept | new})
