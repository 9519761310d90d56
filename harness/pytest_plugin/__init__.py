"""The pytest plugin. `pytest --benchmark` runs the timed suite and tests marked `timed`; without it they are skipped.

Each test of the timed suite (`harness.pytest_plugin.suite`) measures one profile cell. If the command line names tests,
the suite does not run. If options choose cells, the suite runs alone. Otherwise it runs with the timed tests found.

The entry point has this module's name, so that `-p harness.pytest_plugin` does not load the plugin a second time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.common.errors import SkylineError
from harness.common.lazy import lazy_imports

with lazy_imports():
    from harness.pytest_plugin import measuring, replay, suite
    from harness.pytest_plugin import selection as choosing
    from harness.recipes import discovery
    from harness.runs import planning, progress


if TYPE_CHECKING:
    from harness.pytest_plugin.measuring import Bench
    from harness.pytest_plugin.selection import Selection
    from harness.records.schema import Record

FLAG = "--benchmark"
CHOOSING = ("method", "recipe", "runtime", "workload", "device", "model")
"""Options, without their prefix `--benchmark-`, that choose cells of the suite."""
RECORDING = pytest.StashKey[Any]()
"""Key of a test's `Recording`."""
BENCH = pytest.StashKey[Any]()
"""Key of a session's `Bench`."""
QUIET = (
    r"ignore:`torch.jit.*:DeprecationWarning",
    "ignore::DeprecationWarning:fvcore.*",
    "ignore::DeprecationWarning:iopath.*",
)
"""Warnings that libraries give about each other. A user cannot act on them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--benchmark` and its options."""
    group = parser.getgroup("skyline", "Skyline's timed suite")

    def choose(name: str, metavar: str, text: str, **settings: Any) -> None:
        group.addoption(f"{FLAG}-{name}", metavar=metavar, help=text, **settings)

    def choose_several(name: str, metavar: str, text: str) -> None:
        choose(name, metavar, f"{text}; repeat the option to add more", action="append", default=[])

    group.addoption(
        FLAG,
        action="store_true",
        default=False,
        help="run the timed suite and the tests marked 'timed', on a machine that is otherwise idle. If tests are "
        "named, only these run; if one of the next six options is given, only the suite runs",
    )
    choose_several("method", "ID|FILE", "measure a method, by id or adapter file, with its default options")
    choose_several(
        "recipe", "RECIPE", "measure a recipe, such as 'magnitude:sparsity=0.6' [a few usual ones]"
    )
    choose_several(
        "runtime",
        "NAME[:PRECISION]",
        "runtime: eager, compile, onnxruntime or openvino, in float32, bfloat16 or int8 [eager]",
    )
    choose_several("workload", "BATCHxLENGTH", "batch size and sequence length in tokens [1x128]")
    choose("device", "DEVICE", "cpu or cuda [cpu]")
    choose("model", "MODEL", "base model, hub name or local Hugging Face folder, untrained [bert-base]")
    choose("time-cap", "SECONDS", "limit for the paired timing of one cell [20]", type=float)
    choose("records", "DIR", "folder for the records of the timed suite [runs]")
    group.addoption(
        f"{FLAG}-tiny",
        action="store_true",
        default=False,
        help="try the timed suite on a tiny model, with records in a temporary folder unless --benchmark-records is "
        "given; the figures have no meaning",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and register adapter files that the command line names, for this process and its children.

    Raises UsageError if an adapter file does not exist.
    """
    config.addinivalue_line("markers", "timed: measures time; runs only with --benchmark")
    if not config.getoption(FLAG):
        return
    for ignored in QUIET:
        config.addinivalue_line("filterwarnings", ignored)
    methods = _given(config, "method")
    if not methods:
        return
    try:
        files = choosing.adapter_files_of(methods, config.invocation_params.dir)
    except SkylineError as error:
        raise pytest.UsageError(str(error)) from None
    if files:
        patch = pytest.MonkeyPatch()
        config.add_cleanup(patch.undo)
        patch.setenv(discovery.FILES, os.pathsep.join(map(str, files)), prepend=os.pathsep)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Choose the suite's cells before tests are collected, so that a mistake in the options ends the run at once.

    Raises UsageError for such a mistake, and if pytest-benchmark is not active.
    """
    config = session.config
    if config.getoption(FLAG):
        if not config.pluginmanager.has_plugin("pytest-benchmark"):
            raise pytest.UsageError(f"{FLAG} needs pytest-benchmark, which is not active; add '-p benchmark'")
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            _choose_cells(config)
            if any(_given(config, option) for option in CHOOSING):
                config.args = []  # the suite alone
    return (yield)


def _choose_cells(config: pytest.Config) -> None:
    try:
        config.stash[suite.JOBS] = planning.resolve_cells(asked_for(config).cells())
    except SkylineError as error:
        raise pytest.UsageError(" ".join(str(error).split())) from None


def _given(config: pytest.Config, name: str) -> Any:
    return config.getoption(f"{FLAG}-{name}")


def asked_for(config: pytest.Config) -> Selection:
    """Return the selection that the options make. `--benchmark-tiny` changes the default model and time cap."""
    tiny = _given(config, "tiny")
    methods = _given(config, "method")
    cap = _given(config, "time-cap")
    return choosing.Selection(
        recipes=tuple(_given(config, "recipe")),
        methods=tuple(
            str(config.invocation_params.dir / each) if choosing.is_file(each) else each for each in methods
        ),
        runtimes=tuple(_given(config, "runtime")) or (choosing.RUNTIME,),
        workloads=tuple(_given(config, "workload")) or (choosing.WORKLOAD,),
        device=_given(config, "device") or "cpu",
        model=_given(config, "model") or (choosing.TINY_MODEL if tiny else choosing.MODEL),
        time_cap_s=cap if cap is not None else choosing.TINY_TIME_CAP_S if tiny else choosing.TIME_CAP_S,
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """With `--benchmark`, keep only timed tests and add the suite's; without it, skip timed tests."""
    wanted = bool(config.getoption(FLAG))
    if wanted and config.stash.get(suite.JOBS, []):
        items.extend(suite.suite_items(session))
    others = [item for item in items if not _is_timed(item)]
    timed = [item for item in items if _is_timed(item)]
    if not wanted:
        for item in timed:
            item.add_marker(pytest.mark.skip(reason="timed: run with --benchmark"))
        return
    items[:] = timed
    config.hook.pytest_deselected(items=others)
    for item in timed:
        if _profiles(item):
            _replay(item)


def _is_timed(item: pytest.Item) -> bool:
    return _profiles(item) or item.get_closest_marker("timed") is not None


def _profiles(item: pytest.Item) -> bool:
    return "skyline_profile" in getattr(item, "fixturenames", ())


def _replay(item: pytest.Item) -> None:
    """Give pytest-benchmark a clock that replays measured durations. Other settings of the test's marker stay."""
    recording = item.stash[RECORDING] = replay.Recording()
    own = item.get_closest_marker("benchmark")
    settings = {**({} if own is None else own.kwargs), "timer": recording.replay_clock}
    item.add_marker(pytest.mark.benchmark(**settings), append=False)


@pytest.fixture(scope="session")
def _skyline_bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[measuring.Bench]:
    config = request.config
    folder = _given(config, "records")
    if folder is None and _given(config, "tiny"):
        folder = tmp_path_factory.mktemp("records")
    try:
        with measuring.Bench.opened(Path(folder or "runs")) as bench:
            config.stash[BENCH] = bench
            yield bench
    except SkylineError as error:
        pytest.fail(str(error).replace("--out", f"{FLAG}-records"), pytrace=False)


@pytest.fixture
def skyline_profile(
    request: pytest.FixtureRequest, benchmark: Any, _skyline_bench: Bench
) -> Callable[..., Record]:
    """Measure one cell in a user's test: `skyline_profile(recipe, runtime="eager", workload="1x128")`.

    The test gives runtime (`NAME` or `NAME:PRECISION`) and workload (`BATCHxLENGTH`); the command line gives model,
    device and time cap. The function writes and returns the record, and hands its passes to pytest-benchmark. It skips
    the test if the runtime does not support the cell, and fails it if the cell fails. It needs `--benchmark`.
    """

    def profile(
        recipe: str,
        *,
        runtime: str = choosing.RUNTIME,
        workload: str = choosing.WORKLOAD,
    ) -> Record:
        if not benchmark.enabled:
            pytest.skip(
                "pytest-benchmark is disabled, by --benchmark-disable or because tests run in parallel"
            )
        asked = replace(
            asked_for(request.config),
            recipes=(recipe,),
            methods=(),
            runtimes=(runtime,),
            workloads=(workload,),
        )
        try:
            (cell,) = asked.cells()
            known = {job.cell: job for job in request.config.stash.get(suite.JOBS, [])}
            job = known.get(cell) or planning.resolve_cells([cell])[0]
            found = _skyline_bench.measure(job)
        except SkylineError as error:
            pytest.fail(str(error), pytrace=False)
        if found.record.status == "skipped":
            pytest.skip(found.record.reason)
        if found.record.status != "ok":
            pytest.fail(progress.describe_failure(found.record), pytrace=False)
        benchmark.group = f"{cell.model} on {cell.device} at {cell.workload}"
        benchmark.extra_info.update(measuring.extra_info(found))
        request.node.stash[RECORDING].play(benchmark, found.passes)
        return found.record

    return profile


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print one line per cell with its speedup, which pytest-benchmark's table lacks."""
    bench = config.stash.get(BENCH, None)
    if bench is None or not bench.done:
        return
    terminalreporter.section("Skyline")
    for benchmark in bench.done:
        terminalreporter.write_line(measuring.summary_line(benchmark))
    terminalreporter.write_line(f"records: {bench.store.measured}")
