"""Schema of records: what one cell measured, as JSON with its provenance. Reads older formats through migrations.

    python -m harness.records.schema > profiles/record.schema.json

prints the JSON Schema. The committed file is for programs that read records without this package.
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

from harness.common.errors import Code, SkylineError, unknown_name
from harness.common.hardware import Hardware
from harness.records.costs import Cost

FORMAT = 3
Status = Literal["ok", "failed", "skipped", "oom"]
Precision = Literal["float32", "bfloat16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")


def _with_declared_versions(data: dict[str, Any]) -> dict[str, Any]:
    """Migrate from format 1, whose fingerprints hashed source files.

    Without declared versions the record is stale until `harness.runs.migrations.declared_versions` stamps it.
    """
    return {**data, "format": 2, "provenance": {**data.get("provenance", {}), "declared": {}}}


def _with_predictions(data: dict[str, Any]) -> dict[str, Any]:
    """Migrate from format 2, whose records kept no predictions and whose peaks of memory were taken once."""
    return {**data, "format": 3}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _with_declared_versions,
    2: _with_predictions,
}
"""The migration from format n to n + 1, by n."""

_NUMBERS = re.compile(r"\[\n[\s\d.,eE+-]+\]")
"""A list of numbers on several lines. JSON strings contain no line breaks, so it matches no text."""


def precision_named(name: str) -> Precision:
    """Return the precision with this name. Raises SkylineError (`unknown-name`) that suggests the nearest one."""
    for known in PRECISIONS:
        if known == name:
            return known
    raise unknown_name("precision", name, PRECISIONS)


def executed_by(runtime: str, precision: str) -> str:
    """Return a runtime in words, with its precision unless that is float32: `openvino in int8`."""
    return runtime if precision == "float32" else f"{runtime} in {precision}"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Workload(_Model):
    """Inputs of one pass: batch size (sequences), sequence length (tokens), real or synthetic rows.

    `cached` is for synthetic pairs: this many tokens of each row are a second segment whose states were computed
    earlier. Only some models can use it (DeFormer); all others compute whole rows. `task` names the task whose rows an
    untrained artifact reads, in the tokens of its baseline and cut at `length`.
    """

    batch: int = Field(1, ge=1)
    length: int = Field(128, ge=1)
    inputs: Literal["synthetic", "real"] = "synthetic"
    cached: int | None = Field(default=None, ge=1)
    task: str | None = None

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Cells that were made before these fields existed keep their keys.
        data: dict[str, Any] = serialize(self)
        return {
            name: value for name, value in data.items() if name not in ("cached", "task") or value is not None
        }

    @model_validator(mode="after")
    def _something_is_read(self) -> Workload:
        if self.cached is not None and (self.cached >= self.length or self.inputs != "synthetic"):
            raise ValueError("`cached` needs synthetic inputs and must be less than the length")
        if self.task is not None and self.inputs != "real":
            raise ValueError("the rows of a task are real inputs; set inputs to real")
        return self

    def __str__(self) -> str:
        cached = "" if self.cached is None else f", {self.cached} cached"
        rows = "" if self.task is None else f" at most, rows of {self.task}"
        return f"({self.batch}, {self.length}{cached}{rows})"


class ArtifactFacts(_Model):
    """Sizes of one artifact, in bytes and in parameters.

    `survey_params` follows Ganesh et al. (2021, Table 1): a weight of k bits counts k / 32, a pruned weight 0, and
    masks, scales and code books count nothing. `disk_bytes` counts everything.
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
    """The part of `survey_params` in the layers. The survey gives it for methods that compress only the encoder."""


class Training(_Model):
    """How one stage was trained, and what its methods found out. `seconds` is wall time.

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
    """Threads of this training. Another number rounds sums differently."""
    figures: dict[str, float] = {}
    """Figures that the method reports about its stage, by name."""

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


class Predictions(_Model):
    """The predictions on the scored rows, in the rows' order, each field as base64 of packed little-endian values.

    `scores` are float16: for two classes the difference of the logits (second − first, (N,)), for more classes the
    logits (N, classes), for regression the predicted scores (N,). `correct` are bits (N,), the first row in the highest
    bit of the first byte, or null for regression. `answered` counts the answers by class, and `majority` is the share
    in percent of the most frequent label; both are null for regression. Answers of spans are not kept.
    """

    rows: int
    scores: str
    correct: str | None = None
    answered: tuple[int, ...] | None = None
    majority: float | None = None


class Quality(_Model):
    """Scores on the dev split in points (0-100; correlations -100 to 100), with 95 % bootstrap intervals.

    `replicates` holds the primary metric on resampled dev splits. The resampling depends only on the number of
    examples, so the replicates of two records of one task are paired.
    """

    metric: str
    scores: dict[str, float]
    ci95: dict[str, tuple[float, float]]
    replicates: list[float]
    examples: int
    predictions: Predictions | None = None
    training: list[Training] = []


class Component(_Model):
    """Costs of one component, summed over the layers, for one pass of the workload.

    `flops` counts matrix products (a multiply-add is two), `elementwise_flops` everything else. `activation_bytes`
    counts the output tensors of the component's modules.
    """

    name: str
    params: int
    flops: int
    elementwise_flops: int
    weight_bytes: int
    activation_bytes: int
    latency_ms: float | None


class Total(_Model):
    """Costs of the whole model.

    `latency_ms` is the median of passes without instrumentation. `residual_pct` is the share of it that the sum of
    the components does not explain. `mean_depth` is the mean number of layers that rows run through, for an encoder
    with early exit. `peak_memory_bytes` is the median of `memory_samples`, each from a fresh process.
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
    memory_samples: list[int] = []
    accelerator_memory_bytes: int | None = None
    residual_pct: float | None = None
    mean_depth: float | None = None
    uncounted_operators: list[str] = []


class Latency(_Model):
    """Paired latency: the median of the ratios baseline / candidate over pairs, with a 95 % bootstrap interval.

    `speedup` is null if the interval is too wide (`verdict` is then "none"). The interval is null if there are too few
    pairs for it, and a percentile is null if there are too few samples. `samples` counts the pairs that were used.
    `disturbed` counts the pairs in which other processes took the processor; they are left out unless `used` is "all",
    because the others were too few for a narrow interval. `aa_floor` is the largest deviation from 1 in the interval of
    the baseline against itself. `sittings` is the number of processes that took the pairs, one after the other.
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
        """The speedup and both ends of its interval; each is None if it is null in the record."""
        low, high = self.speedup_ci95 or (None, None)
        return self.speedup, low, high


class Agreement(_Model):
    """Agreement of a runtime with `eager` on `rows` rows.

    `equal` is the share of equal predictions, `largest_difference` the largest absolute difference of two logits.
    `eager` computes in float32, except for linear maps that the artifact executes in int8.
    """

    rows: int
    equal: float
    largest_difference: float


class Ceilings(_Model):
    """Peak rates of the machine, measured by PyTorch in the process that timed the passes, with the same threads.

    `matmul_flops` is the FLOP/s of a large matrix product in each precision that the runtime supports on the device.
    `copy_bytes` is the bytes per second (read + written) of a copy too large for the caches. `executed` is the lowest
    precision of the artifact's linear maps; the matrix product in this precision bounds the whole pass.
    """

    matmul_flops: dict[Precision, float]
    copy_bytes: float
    executed: Precision


class Profile(_Model):
    """Costs of one artifact for one runtime, precision, device and workload. `skyline profile --json` prints it.

    `precision` applies to the linear maps that the artifact leaves in float32; maps that it executes in int8 stay so.
    `latency` compares with the baseline under the same runtime in float32, `over_eager` with the baseline under eager
    in float32. `over_eager` is null if both are the same comparison, `agreement` if there is nothing to compare.
    `memory_floor` is the relative A/A spread of peak memory: a smaller difference from the baseline's is noise.
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
    memory_floor: float | None = None
    realised: dict[Cost, bool]
    hardware: Hardware
    versions: dict[str, str]

    @property
    def executed_by(self) -> str:
        """The runtime in words, with its precision unless that is float32."""
        return executed_by(self.runtime, self.precision)

    @property
    def flops_ratio(self) -> float | None:
        """FLOPs of the baseline / FLOPs of the artifact; None without a baseline, or if the artifact has none."""
        if self.baseline is None or not self.total.flops:
            return None
        return self.baseline.flops / self.total.flops


class Spent(_Model):
    """Wall time of a profile's cell in seconds, by activity.

    - `making`: build the artifact and its baseline, or check that the existing ones are whole; export the graph if the
      runtime needs one.
    - `describing`: hash and pack the artifact's files for `ArtifactFacts`, once for each artifact.
    - `loading`: load models into the processes that run them; compile them in their first pass if the runtime does so.
    - `passes`: run passes for latency (warm-up, pairs, stopping rule), components, ceilings, peak memory and agreement.
    - `overhead`: all the rest: processes, imports, counting FLOPs and bytes, statistics, files.

    Work that a run does once for all cells (start the process server, import torch) belongs to no cell.
    """

    making: float
    describing: float
    loading: float
    passes: float
    overhead: float


class Provenance(_Model):
    """Origin of a record.

    `fingerprint` hashes everything that can make the record stale: declared versions, data, options, budgets, weights
    and the versions of important packages. `declared` holds the declared versions of the harness's parts and of the
    recipe's methods, by name. `seconds` is the wall time of the cell.
    """

    fingerprint: str
    declared: dict[str, int]
    skyline: str
    versions: dict[str, str]
    hardware: Hardware
    weights: str
    data: str | None
    started: str
    seconds: float
    spent: Spent | None = None
    """How `seconds` was spent; only in profiles."""


class Record(_Model):
    """One cell and its measurements."""

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
        """Return the record as indented JSON with sorted keys, each list of numbers on one line."""
        data = self.model_dump(mode="json")
        text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        return _NUMBERS.sub(lambda match: " ".join(match[0].split()), text)


def parse_record(text: str, source: str) -> Record:
    """Parse a record of this or an older format.

    Raises SkylineError that names `source`: `unreadable` if it is not JSON, `wrong-kind` if it is not a record,
    `wrong-version` for an unknown format, `damaged` if a field is wrong.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise SkylineError(
            f"{source} is not JSON (line {error.lineno}); delete it and run again", Code.UNREADABLE
        ) from None
    if not isinstance(data, dict) or type(data.get("format")) is not int:  # `True` is an int too
        raise SkylineError(
            f"{source} is not a Skyline record (it has no 'format'); move it out of the folder",
            Code.WRONG_KIND,
        )
    while data["format"] < FORMAT:
        migrate = MIGRATIONS.get(data["format"])
        if migrate is None:
            raise SkylineError(
                f"{source} has format {data['format']}, which this Skyline cannot read; run its cell again",
                Code.WRONG_VERSION,
            )
        data = migrate(data)
    if data["format"] > FORMAT:
        raise SkylineError(
            f"{source} was written by a newer Skyline (format {data['format']}, this one reads {FORMAT}); "
            "update Skyline",
            Code.WRONG_VERSION,
        )
    try:
        return Record.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SkylineError(
            f"{source} is not a valid record: {where}: {first['msg']}; delete it and run again", Code.DAMAGED
        ) from None


def read_record(path: Path) -> Record:
    """Read one record file. Raises SkylineError as `parse_record` does, and `unreadable` if the file cannot be read."""
    try:
        return parse_record(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SkylineError(
            f"{path} cannot be read ({error}); delete it and run again", Code.UNREADABLE
        ) from None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a record of the current format."""
    schema = Record.model_json_schema()
    schema["properties"]["format"] = {"const": FORMAT, "title": "Format", "type": "integer"}
    schema["required"] = ["format", *schema["required"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(), indent=1) + "\n")
