"""`skyline profile`: measure one recipe without training it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Json
from harness.common.lazy import lazy_imports

with lazy_imports():
    from harness.profiling import inputs, report
    from harness.recipes import recipe as recipes_recipe
    from harness.records import cells, schema
    from harness.runs import limits, planning, profile_run


def profile(
    recipe: Annotated[
        str, typer.Argument(help="A recipe, such as 'dynamic-int8' or 'kd-logits:layers=6 > dynamic-int8'.")
    ],
    model: Annotated[
        str, typer.Option(help="Base model, hub name or local Hugging Face folder.")
    ] = "bert-base",
    seq: Annotated[int, typer.Option(help="Sequence length in tokens.")] = 256,
    batch: Annotated[int, typer.Option(help="Batch size.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    runtime: Annotated[
        str, typer.Option(help="Runtime: eager, compile, cuda-graphs, onnxruntime or openvino.")
    ] = "eager",
    precision: Annotated[
        str,
        typer.Option(
            help="Precision of the layers that the recipe left in float32: float32, bfloat16 or int8."
        ),
    ] = "float32",
    time_cap: Annotated[float, typer.Option(help="Limit for the paired timing, in seconds.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Seed of random weights.")] = 0,
    json_: Json = False,
) -> None:
    """Measure a recipe without training it.

    Prints size, FLOPs, memory, latency and components, each compared with the baseline's.
    """
    chosen = schema.precision_named(precision)
    limits.within("batch", batch, 1, limits.MAX_BATCH)
    limits.within("time-cap", time_cap, limits.MIN_TIME_CAP_S, limits.MAX_TIME_CAP_S)
    limits.within("seed", seed, 0, limits.MAX_SEED)
    cell = cells.ProfileCell(
        recipe=str(recipes_recipe.Recipe.parse(recipe)),
        model=model,
        seed=seed,
        runtime=runtime,
        precision=chosen,
        device=device,
        workload=inputs.make_workload(seq, batch),
        time_cap_s=time_cap,
    )
    (job,) = planning.resolve_cells([cell])
    if job.refusal is not None:
        raise job.refusal
    with (
        tempfile.TemporaryDirectory(prefix="skyline-") as workspace,
        profile_run.ProfileRun(Path(workspace)) as measuring,
    ):
        record = profile_run.execute_profile(job, measuring)
    assert record.profile is not None
    if json_:
        typer.echo(record.profile.model_dump_json(indent=1))
    else:
        report.print_profile(record.profile)
