"""The pytest plugin: `pytest --benchmark` runs the timed suite and the tests marked `timed`, which are skipped without
it.

The shipped suite (`harness.pytest_plugin`) measures one profile cell a test. Tests that are named on the command line
run without it. Otherwise it runs: alone where options choose its cells, else beside the timed tests that are found.

It is loaded by its entry point, which has this module's name, so that `-p harness.pytest_plugin` loads it once too.
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
"""The options, after `--benchmark-`, that choose cells of the suite."""
RECORDING = pytest.StashKey[Any]()
"""The `Recording` of an item that measures a cell."""
BENCH = pytest.StashKey[Any]()
"""The `Bench` of a session that measured one."""
QUIET = (
    r"ignore:`torch.jit.*:DeprecationWarning",
    "ignore::DeprecationWarning:fvcore.*",
    "ignore::DeprecationWarning:iopath.*",
)
"""Warnings of libraries about each other, which nobody who measures can do anything about."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--benchmark` and what it measures."""
    group = parser.getgroup("skyline", "Skyline's timed suite")

    def choose(name: str, metavar: str, text: str) -> None:
        group.addoption(f"{FLAG}-{name}", metavar=metavar, help=text)

    def choose_several(name: str, metavar: str, text: str) -> None:
        several = f"{text}; several times for several"
        group.addoption(f"{FLAG}-{name}", metavar=metavar, action="append", default=[], help=several)

    group.addoption(
        FLAG,
        action="store_true",
        default=False,
        help="run the timed suite and the tests marked 'timed' on this (quiet) machine: of named tests only these, "
        "and only the suite where one of the next six options is given",
    )
    choose_several("method", "ID|FILE", "a method to measure with its default options, or its adapter file")
    choose_several("recipe", "RECIPE", "a recipe to measure, such as 'magnitude:sparsity=0.6' [a few]")
    choose_several(
        "runtime",
        "NAME[:PRECISION]",
        "what executes it: eager, compile, onnxruntime or openvino, in float32, bfloat16 or int8 [eager]",
    )
    choose_several("workload", "BATCHxLENGTH", "sequences in one pass, and their tokens [1x128]")
    choose("device", "DEVICE", "cpu or cuda [cpu]")
    choose("model", "MODEL", "base model, hub name or local Hugging Face folder, untrained [bert-base]")
    group.addoption(
        f"{FLAG}-time-cap",
        type=float,
        metavar="SECONDS",
        help="what the paired timing of one cell may take [20]",
    )
    group.addoption(f"{FLAG}-records", metavar="DIR", help="folder for the records of the timed suite [runs]")
    group.addoption(
        f"{FLAG}-tiny",
        action="store_true",
        default=False,
        help="go through the timed suite on a tiny model, its records into a temporary folder unless one is named; "
        "its figures then mean nothing",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and let this process and its children know the adapter files."""
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
    """Choose the suite's cells before anything else is collected: a mistake in the options ends the run at once."""
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
    """What the options ask for."""
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
    """With the flag only timed tests run, the suite's among them; without it none of them."""
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
    """Give pytest-benchmark a clock that shows what was measured, beside what the test's own marker says."""
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
    """Measure one cell in a test of one's own: `skyline_profile(recipe, runtime="eager", workload="1x128")`.

    Runtime (`NAME` or `NAME:PRECISION`) and workload (`BATCHxLENGTH`) are the test's, model, device and time cap the
    command line's. The record is written and returned, and its passes are handed to pytest-benchmark; what the runtime
    cannot run skips the test, and what fails fails it. It runs only with `--benchmark`.
    """

    def profile(
        recipe: str,
        *,
        runtime: str = choosing.RUNTIME,
        workload: str = choosing.WORKLOAD,
    ) -> Record:
        if not benchmark.enabled:
            pytest.skip(
                "pytest-benchmark is disabled, by --benchmark-disable or since tests run side by side"
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
    """Say what was measured: pytest-benchmark's table has no speedups."""
    bench = config.stash.get(BENCH, None)
    if bench is None or not bench.done:
        return

    terminalreporter.section("Skyline")
    for benchmark in bench.done:
        terminalreporter.write_line(measuring.summary_line(benchmark))
    terminalreporter.write_line(f"records: {bench.store.measured}")
