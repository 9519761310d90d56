"""The work of `skyline check`: find faults in records, artifacts, suites, task descriptions and adapter files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness.common.errors import Code, SkylineError
from harness.common.lazy import lazy_imports
from harness.common.processes import start_server
from harness.models.shape_checks import check_length
from harness.recipes.discovery import load_file, single_method
from harness.recipes.recipe import Recipe
from harness.records.checks import check_records
from harness.records.schema import read_record
from harness.runs.suites import Suite, parse_suite
from harness.runtimes import get_runtime
from harness.tasks import built_in_name, load_task
from harness.tasks.local import Description

with lazy_imports():
    import torch

    from harness.conformance import checks
    from harness.models import artifacts, checkpoints
    from harness.models import batch as models_batch
    from harness.profiling.costs import size
    from harness.recipes import builder


PICKLES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
"""Suffixes of files that may hold pickled code."""


def check_path(path: Path) -> list[str]:
    """Return the faults of a file or folder, one line each.

    Its kind follows from its name: a record (.json), a suite or a task description (.toml), an adapter (.py), an
    artifact (a folder with config.json or weights.safetensors) or a folder of records. Raises SkylineError if it does
    not exist (`not-found`) or is of another kind (`wrong-kind`).
    """
    if not path.exists():
        raise SkylineError(f"there is no file or folder {path}; check its name", Code.NOT_FOUND)
    if path.is_dir():
        check = _folder_check(path)
    else:
        kinds: dict[str, Callable[[Path], list[str]]] = {
            ".json": check_record_file,
            ".toml": check_task if _describes_task(path) else check_suite,
            ".py": check_adapter,
        }
        if path.suffix not in kinds:
            raise SkylineError(
                f"{path} cannot be checked; name a record (.json), a suite or a task description (.toml), an adapter "
                "(.py), an artifact's folder or a folder of records",
                Code.WRONG_KIND,
            )
        check = kinds[path.suffix]
    try:
        found = check(path)
    except SkylineError as error:
        found = [str(error)]
    return [_without(path, problem) for problem in found]


def _folder_check(path: Path) -> Callable[[Path], list[str]]:
    if (path / artifacts.CONFIG).is_file() or (path / artifacts.WEIGHTS).is_file():
        return check_artifact
    if not _record_files(path):
        raise SkylineError(
            f"{path} holds neither an artifact ({artifacts.CONFIG}, {artifacts.WEIGHTS}) nor records (*.json); "
            "name another folder",
            Code.WRONG_KIND,
        )
    return check_record_folder


def _without(path: Path, problem: str) -> str:
    """Return a fault as one line without `path`, which the caller prints. Names of files are relative to it."""
    line = " ".join(problem.split())
    for start in (f"{path}: ", f"{path} "):
        line = line.removeprefix(start)
    return re.sub(rf"(?<![\w./-]){re.escape(str(path))}/", "", line)


def check_record_file(path: Path) -> list[str]:
    """Return the data tests that a record fails. Raises SkylineError if the file is not a valid record."""
    return check_records([read_record(path)])


def _record_files(folder: Path) -> list[Path]:
    """Return the files under `measured` if the folder has it (profiles, a run's --out), else all its JSON files."""
    measured = folder / "measured"
    found = measured.glob("*/*.json") if measured.is_dir() else folder.rglob("*.json")
    return sorted(path for path in found if not path.name.startswith("."))


def check_record_folder(folder: Path) -> list[str]:
    """Return the files of a folder that are not valid records, and the data tests that the others fail together."""
    records, found = [], []
    for path in _record_files(folder):
        try:
            records.append(read_record(path))
        except SkylineError as error:
            found.append(str(error))
    return found + check_records(records)


def check_artifact(folder: Path) -> list[str]:
    """Return the faults of an artifact: in its files and their hashes, sizes, tensors, tokenizer and logits."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in PICKLES:
            found.append(f"{path.name} may hold pickled code; delete it")
        elif (
            path.name not in (artifacts.CONFIG, artifacts.WEIGHTS, artifacts.TOKENIZER)
            or path.parent != folder
        ):
            found.append(f"{path.relative_to(folder)} does not belong to an artifact; delete it")
    try:
        artifacts.verify_artifact(folder)
    except SkylineError as error:
        return [*found, str(error)]  # further checks of damaged files would say nothing
    facts = size.artifact_facts(folder)
    model = artifacts.load_artifact(folder)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    bad = [name for name, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if bad:
        found.append(f"tensor '{bad[0]}' has values that are not finite; make the artifact again")
    if facts.nonzero_params > facts.params:
        found.append("it stores more weights than its configuration has; make the artifact again")
    if model.tokenizer is not None and model.tokenizer.vocab_size > model.config.vocab_size:
        found.append("its tokenizer has more tokens than its embedding has rows; make the artifact again")
    if not bad:
        batch = models_batch.Batch.synthetic(2, min(16, model.config.positions), model.config.vocab_size)
        with torch.inference_mode():
            if not torch.isfinite(model(batch).logits).all():
                found.append("its logits are not finite; make the artifact again")
    return found


def check_suite(path: Path) -> list[str]:
    """Return the faults of a suite: in its keys, and in every model, recipe, task, budget, runtime and workload that it
    names. It does not check that data of tasks and models of a hub are available.
    """
    suite = parse_suite(path)
    checks: list[Callable[[], object]] = [partial(get_runtime, suite.runtime)]
    if suite.experiments:
        lengths = [suite.workload[1]] if any(experiment.profile for experiment in suite.experiments) else []
        checks.append(partial(_check_model, suite.model, lengths, trains=True))
    if suite.profiling:
        lengths = [length for profiling in suite.profiling for _, length in profiling.workloads]
        checks.append(partial(_check_model, suite.profile_model, lengths, trains=False))
    named = [recipe for experiment in suite.experiments for recipe in experiment.recipes]
    named += [recipe for profiling in suite.profiling for recipe in profiling.recipes]
    checks += [partial(Recipe.parse, recipe) for recipe in named]
    for experiment in suite.experiments:
        checks.append(partial(builder.check_budget, experiment.budget))
        checks += [partial(_check_task, task) for task in experiment.tasks]
    found = []
    for check in checks:
        try:
            check()
        except SkylineError as error:
            found.append(str(error))
    return list(dict.fromkeys(found))


def _check_model(name: str, lengths: list[int], *, trains: bool) -> None:
    positions = _positions(name, trains)
    if positions is not None and lengths:
        check_length(max(lengths), positions, name)


def _positions(name: str, trains: bool) -> int | None:
    """Return the number of positions of a base model; None if it is known only to the hub or needs an extra that is not
    installed. Raises SkylineError for an unknown name and for a local folder that cannot be loaded.
    """
    name = checkpoints.ALIASES.get(name, name)
    if name == checkpoints.MINILM:
        try:
            return checkpoints.base_config(name).positions
        except SkylineError:
            return None
    if name and Path(name).is_dir():
        checkpoints.check_base_model(name, needs_tokenizer=trains)
    elif name in checkpoints.BASE_MODELS:
        return checkpoints.BASE_MODELS[name].config.positions
    elif name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return None
    return checkpoints.base_config(name).positions


def _check_task(name: str) -> None:
    if built_in_name(name) is None:
        load_task(name)


def _describes_task(path: Path) -> bool:
    """Return whether a TOML file has keys of a task description and none of a suite; False if it cannot be parsed."""
    try:
        keys = set(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False
    return bool(keys & set(Description.model_fields)) and not keys & set(Suite.model_fields)


def check_task(path: Path) -> list[str]:
    """Return the faults in the files that a task description names. Raises SkylineError if the description is not
    valid.
    """
    task, found = load_task(str(path)), []
    for split in task.splits:
        try:
            task.split(split)
        except SkylineError as error:
            found.append(str(error))
    return found


def check_adapter(path: Path) -> list[str]:
    """Return the conformance checks that an adapter file's method fails. Raises SkylineError if the file does not
    define exactly one method.
    """
    start_server()  # it imports torch while this process does
    method = single_method(load_file(path, f"skyline_adapter_{path.stem}"), path.stem)
    return [str(failure) for failure in checks.run_conformance(method, path)]
