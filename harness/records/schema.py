"""What one cell measured, as JSON with its provenance: the schema, its reading with migrations, and its
writing.

Records are small, versioned and written atomically, so a killed run leaves whole records or none.

    python -m harness.records.schema > profiles/record.schema.json

prints their JSON Schema. The committed file is for programs that read records without this package.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from harness.common.errors import SkylineError, unknown_name
from harness.common.hardware import Hardware

FORMAT = 1
COSTS = ("disk", "parameters", "flops", "latency", "memory")
Cost = Literal["disk", "parameters", "flops", "latency", "memory"]
Status = Literal["ok", "failed", "skipped", "oom"]
Precision = Literal["float32", "bfloat16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From format n to n + 1, by n. Empty while there is only one format."""

_NUMBERS = re.compile(r"\[\n[\s\d.,eE+-]+\]")
"""A list of numbers over several lines; inside a JSON string no line ends."""


def precision_named(name: str) -> Precision:
    """A precision by its name. Raises SkylineError, with the nearest, for an unknown one."""
    for known in PRECISIONS:
        if known == name:
            return known
    raise unknown_name("precision", name, PRECISIONS)


def executed_by(runtime: str, precision: str) -> str:
    """A runtime, and the precision where that is not float32, in words: `openvino in int8`."""
    return runtime if precision == "float32" else f"{runtime} in {precision}"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Workload(_Model):
    """Batch size (sequences) and sequence length (tokens) of one pass, with real or synthetic inputs. `cached`: of
    synthetic pairs, how many of the tokens are second segments whose states were computed before, for models that can
    make use of it (DeFormer); others read whole rows. `task`: whose rows an untrained artifact reads, in its
    baseline's tokens; `length` cuts them.
    """

    batch: int = Field(1, ge=1)
    length: int = Field(128, ge=1)
    inputs: Literal["synthetic", "real"] = "synthetic"
    cached: int | None = Field(default=None, ge=1)
    task: str | None = None

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Cells from before there were these fields keep their keys.
        data: dict[str, Any] = serialize(self)
        return {
            name: value for name, value in data.items() if name not in ("cached", "task") or value is not None
        }

    @model_validator(mode="after")
    def _something_is_read(self) -> Workload:
        if self.cached is not None and (self.cached >= self.length or self.inputs != "synthetic"):
            raise ValueError(
                "of a synthetic row some tokens must be left to read beside those that are cached"
            )
        if self.task is not None and self.inputs != "real":
            raise ValueError("a task's rows are real inputs")
        return self

    def __str__(self) -> str:
        cached = "" if self.cached is None else f", {self.cached} cached"
        rows = "" if self.task is None else f" at most, rows of {self.task}"
        return f"({self.batch}, {self.length}{cached}{rows})"


class ArtifactFacts(_Model):
    """Sizes of one artifact, in bytes and in weights.

    `survey_params` counts a weight of k bits as k / 32 of one, a pruned weight as none, and charges nothing
    for masks, scales or code books (the convention of Ganesh et al. 2021, Table 1); `disk_bytes` charges
    everything.
    """

    hash: str
    disk_bytes: int
    weight_bytes: int
    config_bytes: int
    word_embedding_bytes: int
    gzip_bytes: int
    params: int
    nonzero_params: int
    word_embedding_params: int
    bits_per_weight: float
    survey_params: float
    survey_params_without_embeddings: float
    survey_layer_params: float | None = None
    """Of these, what stands in the layers: the density that the survey gives encoder-only methods."""


class Training(_Model):
    """How one stage was trained, and what its methods found out.

    A stage that trains nothing has an entry only if its methods left figures: `steps` is then 0, and `final_loss`
    is null.
    """

    stage: str
    epochs: float
    steps: int
    examples: int
    seconds: float
    final_loss: float | None
    precision: Literal["float32", "bfloat16"]
    threads: int | None = None
    """Of this training; another number rounds its sums otherwise."""
    figures: dict[str, float] = {}
    """What a method found out in its stage, by name."""

    @classmethod
    def untrained(cls, stage: str, figures: dict[str, float]) -> Training:
        """The entry of a stage that trains nothing."""
        return cls(
            stage=stage,
            epochs=0.0,
            steps=0,
            examples=0,
            seconds=0.0,
            final_loss=None,
            precision="float32",
            figures=figures,
        )


class Quality(_Model):
    """Scores on the dev split in points (0-100), with a 95 % bootstrap interval.

    `replicates` holds the primary metric on resampled dev sets. The resampling depends on the number of
    examples alone, so the replicates of two records of one task are paired, example by example.
    """

    metric: str
    scores: dict[str, float]
    ci95: dict[str, tuple[float, float]]
    replicates: list[float]
    examples: int
    training: list[Training] = []


class Component(_Model):
    """Costs of one component, summed over the layers. FLOPs are of one pass of the workload.

    `flops` is matrix work (a multiply-add is two), `elementwise_flops` all other. `activation_bytes` are
    those of the tensors that the component's modules put out in one pass.
    """

    name: str
    params: int
    flops: int
    elementwise_flops: int
    weight_bytes: int
    activation_bytes: int
    latency_ms: float | None


class Total(_Model):
    """Costs of the whole model. `latency_ms` is the uninstrumented median; `residual_pct` what the
    components' sum misses of it. `mean_depth`: of an encoder whose rows leave early, how many layers they run through.
    """

    params: int
    flops: int
    macs: int
    elementwise_flops: int
    weight_bytes: int
    activation_bytes: int
    latency_ms: float | None
    disk_bytes: int
    peak_memory_bytes: int | None
    accelerator_memory_bytes: int | None = None
    residual_pct: float | None = None
    mean_depth: float | None = None
    uncounted_operators: list[str] = []


class Latency(_Model):
    """Paired latency: the median of the pairwise ratios baseline / candidate with a bootstrap 95 % interval.

    `speedup` is null where the interval stayed too wide (`verdict` is then "none"), the interval where there
    were too few pairs for one. `samples` counts the pairs used, `disturbed` those in which others took the
    processor: they are left out, unless `used` is "all" because too few others gave a narrow interval.
    `aa_floor` is the largest departure from 1 in the interval of the baseline against itself. A tail
    percentile is null where the samples do not carry it. `sittings`: in how many parts, each in a process of its
    own, the pairs were taken.
    """

    median_ms: float
    p10_ms: float | None
    p90_ms: float | None
    baseline_median_ms: float
    samples: int
    disturbed: int
    used: Literal["undisturbed", "all"] = "undisturbed"
    speedup: float | None
    speedup_ci95: tuple[float, float] | None
    verdict: Literal["measured", "none"]
    aa_floor: float | None
    stopped_by: Literal["precision", "time", "samples"]
    threads: int
    sittings: int = 1

    @property
    def speedup_with_interval(self) -> tuple[float | None, float | None, float | None]:
        """The speedup, None where its interval stayed too wide, and both ends of that (None with too few pairs)."""
        low, high = self.speedup_ci95 or (None, None)
        return self.speedup, low, high


class Agreement(_Model):
    """A runtime's answers beside those of `eager` as the artifact says (in float32, but for maps that it executes in
    int8), over so many rows: the share of equal predictions, and the largest difference between two logits.
    """

    rows: int
    equal: float
    largest_difference: float


class Ceilings(_Model):
    """What the machine itself reaches, measured by PyTorch in the process that timed the passes, with as many threads.

    `matmul_flops`: FLOP/s of a large matrix product, by precisions that the runtime has on the device. `copy_bytes`:
    bytes a second of a copy that no cache holds, those read and those written together. `executed`: the lowest
    precision in which the artifact's linear maps are computed; its product bounds the whole pass.
    """

    matmul_flops: dict[Precision, float]
    copy_bytes: float
    executed: Precision


class Profile(_Model):
    """What `skyline profile --json` prints: the costs of one artifact under one runtime, precision, device and
    workload.

    `precision` is that of the linear maps which the artifact leaves in float32; those that it executes in int8 stay
    so. `latency` has the baseline under the same runtime in float32, `over_eager` under eager in float32; it is null
    where this is the same, as is `agreement` where there is nothing to compare with.
    """

    recipe: str
    model: str
    weights: str
    runtime: str
    precision: Precision = "float32"
    device: str
    workload: Workload
    components: list[Component]
    total: Total
    latency: Latency | None
    over_eager: Latency | None = None
    agreement: Agreement | None = None
    ceilings: Ceilings | None = None
    baseline: Total | None
    realised: dict[Cost, bool]
    hardware: Hardware
    versions: dict[str, str]

    @property
    def executed_by(self) -> str:
        """The runtime, and the precision where that is not float32."""
        return executed_by(self.runtime, self.precision)

    @property
    def flops_ratio(self) -> float | None:
        """The baseline's matrix work over the artifact's; None without a baseline or without matrix work."""
        if self.baseline is None or not self.total.flops:
            return None
        return self.baseline.flops / self.total.flops


class Spent(_Model):
    """Seconds of wall time of a profile's cell, by what they went to.

    `making`: the artifact and its baseline are built, or those that are there are found to be whole; and what a
    runtime needs beside them is made (an exported graph). `describing`: the artifact's files are hashed and packed
    for `ArtifactFacts`, once an artifact. `loading`: models are read into the processes that run them, and compiled
    there on their first passes by runtimes that do so. `passes`: what is timed or run to be measured, from the first
    pass of a measurement to its last: warm-up, pairs with the rule that stops them, components, the machine's ceilings;
    passes for the peak of memory; answers that are held against eager's. `overhead` is all the rest of the cell:
    processes, imports, the counting of FLOPs and bytes, statistics, files. What a run does once for all its cells
    (starting the server of processes, importing torch) belongs to none.
    """

    making: float
    describing: float
    loading: float
    passes: float
    overhead: float


class Provenance(_Model):
    """Where a record comes from. `fingerprint` hashes all that makes it stale: method files, data, options,
    versions that matter.
    """

    fingerprint: str
    skyline: str
    versions: dict[str, str]
    hardware: Hardware
    weights: str
    data: str | None
    started: str
    seconds: float
    spent: Spent | None = None
    """What these seconds went to; profiles alone tell."""


class Record(_Model):
    """One cell and what it measured."""

    format: int = FORMAT
    kind: Literal["quality", "profile"]
    key: str
    status: Status
    reason: str = ""
    recipe: str
    model: str
    task: str | None
    seed: int | None
    cell: dict[str, Any]
    artifact: ArtifactFacts | None = None
    quality: Quality | None = None
    profile: Profile | None = None
    provenance: Provenance

    def to_json(self) -> str:
        """The record as stable, indented JSON, each list of numbers on one line."""
        data = self.model_dump(mode="json")
        text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        return _NUMBERS.sub(lambda match: " ".join(match[0].split()), text)


def parse_record(text: str, source: str) -> Record:
    """Read a record of this or an older format. Raises SkylineError naming `source` where it is torn, foreign
    or newer.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise SkylineError(f"{source} is no JSON (line {error.lineno}); delete it and run again") from None
    if not isinstance(data, dict) or type(data.get("format")) is not int:  # True is an int, but no format
        raise SkylineError(f"{source} is no Skyline record (it has no 'format'); move it out of the folder")
    while data["format"] < FORMAT:
        migrate = MIGRATIONS.get(data["format"])
        if migrate is None:
            raise SkylineError(
                f"{source} has format {data['format']}, which nothing reads any more; run its cell again"
            )
        data = migrate(data)
    if data["format"] > FORMAT:
        raise SkylineError(
            f"{source} was written by a newer Skyline (format {data['format']}, this one reads {FORMAT}); "
            "update Skyline"
        )
    try:
        return Record.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SkylineError(
            f"{source} is no valid record: {where}: {first['msg']}; delete it and run again"
        ) from None


def read_record(path: Path) -> Record:
    """Read one record file. Raises SkylineError where it cannot be read or is no valid record."""
    try:
        return parse_record(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SkylineError(f"{path} cannot be read ({error}); delete it and run again") from None


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a record of this format (draft 2020-12): what `parse_record` reads without a migration."""
    schema = Record.model_json_schema()
    schema["properties"]["format"] = {"const": FORMAT, "title": "Format", "type": "integer"}
    schema["required"] = ["format", *schema["required"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(), indent=1) + "\n")
