"""Artifacts: the folder that a recipe produces. `config.json`, `weights.safetensors`, `tokenizer.json`;
nothing is pickled.

What is scored, weighed and timed is loaded from such a folder, so the figures of one row belong to the same
bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.common.errors import SkylineError
from harness.common.files import new_folder
from harness.common.hashing import fresh_sha256
from harness.models.codecs import Codec, Encoded
from harness.models.encoder.encoder import Encoder
from harness.models.factory import ModelConfig, make_model
from harness.models.initialization import nothing_drawn, without_weights
from harness.models.int8_linear import Int8Linear, replace_linear, require_dense
from harness.models.model import Model
from harness.models.parametrization import attached
from harness.models.tokenizer import Tokenizer

FORMAT = 1
CONFIG, WEIGHTS, TOKENIZER = "config.json", "weights.safetensors", "tokenizer.json"


class ArtifactConfig(BaseModel):
    """What config.json holds. `codecs` names only tensors that are not dense float32.

    `digests` holds the SHA-256 of each other file, and under its own name that of the configuration's content
    (see `verify_artifact`); artifacts made before there were digests have none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    recipe: str
    origin: str
    model: ModelConfig
    codecs: dict[str, str] = {}
    kernels: dict[str, str] = {}
    parents: list[str] = []
    digests: dict[str, str] = {}


def save_artifact(model: Model, folder: Path, recipe: str = "baseline", parents: Iterable[str] = ()) -> str:
    """Write `model` as an artifact, stored by `model.storage`, and return its hash.

    The folder appears whole or not at all. Raises SkylineError where it exists already, and for a model that
    executes on compressed weights (see `to_dense`).
    """
    require_dense(model)
    if left := attached(model):
        raise SkylineError(
            f"'{left[0]}' is still parametrized; the method that did so has to bake it in its finish"
        )
    config = ArtifactConfig(
        recipe=recipe,
        origin=model.origin,
        model=model.config,
        codecs={name: str(codec) for name, codec in sorted(model.storage.codecs.items()) if codec.stages},
        kernels=dict(sorted(model.storage.kernels.items())),
        parents=sorted(parents),
    )
    with new_folder(folder) as temporary:
        save_file(_encoded(model), temporary / WEIGHTS)
        if model.tokenizer is not None:
            (temporary / TOKENIZER).write_text(model.tokenizer.to_json(), encoding="utf-8")
        data = config.model_dump(mode="json")
        data["digests"] = {path.name: fresh_sha256(path) for path in sorted(temporary.iterdir())}
        data["digests"][CONFIG] = _content_digest(data)
        text = json.dumps(data, indent=1, sort_keys=True)
        (temporary / CONFIG).write_text(text + "\n", encoding="utf-8")
    return artifact_hash(folder)


def _encoded(model: Model) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.contents().items():
        encoded = model.storage.codecs.get(name, Codec()).encode(tensor.detach())
        tensors[name] = encoded.values.clone()
        tensors.update(
            {f"{name}::{suffix}": beside.contiguous() for suffix, beside in encoded.beside.items()}
        )
    return tensors


def _content_digest(data: Mapping[str, Any]) -> str:
    """SHA-256 of what config.json says, itself left out, whatever its layout."""
    digests = {name: value for name, value in data["digests"].items() if name != CONFIG}
    text = json.dumps({**data, "digests": digests}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def verify_artifact(folder: Path) -> None:
    """Raise SkylineError where an artifact's files are not the ones that were saved: other bytes in its weights
    or tokenizer, another configuration, a file that is missing or was added.

    It reads every byte, which loading does not. Of an artifact from before there were digests it can only tell
    that its configuration is readable.
    """
    promised = read_config(folder).digests
    if not promised:
        return
    for name in (WEIGHTS, TOKENIZER):
        path, digest = folder / name, promised.get(name)
        if digest is None and path.is_file():
            raise SkylineError(
                f"{path} was not saved with the artifact; delete it or make the artifact again"
            )
        if digest is not None and not path.is_file():
            raise SkylineError(f"{folder}: {name} is missing; make the artifact again")
        if digest is not None and fresh_sha256(path) != digest:
            raise SkylineError(
                f"{path} is damaged (its sha256 is not the saved one); make the artifact again"
            )
    data = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if _content_digest(data) != promised.get(CONFIG):
        raise SkylineError(f"{folder / CONFIG} was changed after it was saved; make the artifact again")


def artifact_hash(folder: Path) -> str:
    """SHA-256 over the names and bytes of the artifact's files."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        if (folder / name).is_file():
            digest.update(f"{name}\0{(folder / name).stat().st_size}\0".encode())
            with (folder / name).open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def read_config(folder: Path) -> ArtifactConfig:
    """Read config.json. Raises SkylineError where the folder is no artifact, is torn, or is of a newer
    format.
    """
    path = folder / CONFIG
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        raise SkylineError(f"{folder} is no artifact: it needs {CONFIG} and {WEIGHTS}")
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise SkylineError(f"{path} is no JSON: the artifact is corrupted; make it again") from None
    if isinstance(data, dict) and data.get("format", FORMAT) != FORMAT:
        raise SkylineError(f"{path} has format {data['format']}, this Skyline reads {FORMAT}; update Skyline")
    try:
        return ArtifactConfig.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        # The second place in a model's fault is the tag of its kind.
        parts = [part for place, part in enumerate(first["loc"]) if place != 1 or first["loc"][0] != "model"]
        where = ".".join(map(str, parts))
        raise SkylineError(f"{path} is no Skyline artifact: {where}: {first['msg']}; make it again") from None


class EncodedWeights:
    """The stored form of a model's parameters, read one at a time: loading never holds all of them twice.

    Raises SkylineError, when made, where the file is torn or foreign, or `config` speaks of weights that are
    not there.
    """

    def __init__(self, folder: Path, config: ArtifactConfig, names: Collection[str]) -> None:
        asked = {*config.codecs, *(f"{path}.weight" for path in config.kernels)}
        if foreign := sorted(asked - set(names)):
            raise SkylineError(
                f"{folder / CONFIG}: the model has no weight '{foreign[0]}'; make the artifact again"
            )
        self._path = folder / WEIGHTS
        self._suffixes: dict[str, list[str]] = {name: [] for name in names}
        stored = _stored_names(self._path)
        for full in stored:
            name, separator, suffix = full.partition("::")
            if name not in self._suffixes:
                raise SkylineError(f"{self._path}: tensor '{full}' does not belong; make the artifact again")
            if separator:
                self._suffixes[name].append(suffix)
        if missing := sorted(set(names) - stored):
            raise SkylineError(f"{self._path}: tensor '{missing[0]}' is missing; make the artifact again")

    def __iter__(self) -> Iterator[tuple[str, Encoded]]:
        """Each parameter's name and what is stored of it, in the order of the names."""
        with _opened(self._path) as file:
            for name, suffixes in self._suffixes.items():
                beside = {suffix: file.get_tensor(f"{name}::{suffix}") for suffix in suffixes}
                yield name, Encoded(file.get_tensor(name), beside)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise SkylineError(f"{path} cannot be read ({error}); make the artifact again") from None


def _stored_names(path: Path) -> set[str]:
    with _opened(path) as file:
        return set(file.keys())


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All stored tensors by name. Raises SkylineError where the file is torn or foreign."""
    with _opened(folder / WEIGHTS) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


def load_artifact(folder: Path | str) -> Model:
    """Load an artifact for inference, its kernels in place. Raises SkylineError where it is corrupted or
    foreign.
    """
    folder = Path(folder)
    config = read_config(folder)
    tokenizer = Tokenizer.from_folder(folder) if (folder / TOKENIZER).is_file() else None
    # Built without memory for the weights: they come from the file.
    with without_weights():
        model = make_model(config.model, tokenizer, config.origin)
    model.storage.codecs = {name: Codec.parse(codec) for name, codec in config.codecs.items()}
    model.storage.kernels = dict(config.kernels)
    shapes = {name: tensor.shape for name, tensor in model.contents().items()}
    executed = {f"{path}.weight" for path in model.storage.kernels}
    for name, encoded in EncodedWeights(folder, config, shapes):
        codec = model.storage.codecs.get(name, Codec())
        try:
            if name in executed:
                _install_kernel(model, name.removesuffix(".weight"), codec, encoded, shapes[name])
            else:
                _set_parameter(model, name, codec.decode(encoded, shapes[name]))
        except SkylineError as error:
            raise SkylineError(f"{folder}: {name}: {error}") from None
    return model.eval()


def load_encoder(folder: Path | str) -> Encoder:
    """An artifact that holds an encoder: a baseline's always does. Raises SkylineError for a student's."""
    model = load_artifact(folder)
    if not isinstance(model, Encoder):
        raise SkylineError(
            f"{folder} holds a '{model.config.kind}' student, no encoder; name another artifact"
        )
    return model


def _install_kernel(model: Model, path: str, codec: Codec, encoded: Encoded, shape: torch.Size) -> None:
    kind = model.storage.kernels[path]
    if kind != "int8" or codec.find("int8") is None:
        raise SkylineError(
            f"module '{path}' asks for kernel '{kind}' on codec '{codec}'; make the artifact again"
        )
    linear = model.get_submodule(path)
    bias = linear.bias if isinstance(linear, nn.Linear) else None
    weight = codec.unpack(encoded, shape)
    replace_linear(model, path, Int8Linear(weight, encoded.beside["scale"], bias))


def _set_parameter(model: Model, name: str, value: Tensor) -> None:
    path, _, attribute = name.rpartition(".")
    module = model.get_submodule(path)
    if isinstance(module, Int8Linear):
        setattr(module, attribute, value)
    else:
        made = getattr(module, attribute)
        setattr(module, attribute, nn.Parameter(value) if made.is_floating_point() else value.to(made.dtype))


def to_dense(model: Model) -> Model:
    """A trainable float32 copy of a loaded model: kernels become linear maps again; codecs are kept."""
    with nothing_drawn():
        dense = make_model(model.config, model.tokenizer, model.origin)
    state: dict[str, Tensor] = {}
    # Shared layers stand in the state under each of their names, so duplicates stay.
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, Int8Linear):
            scale = module.scale if module.scale.dim() == 0 else module.scale[:, None]
            state[f"{path}.weight"] = module.weight.float() * scale
            if module.bias is not None:
                state[f"{path}.bias"] = module.bias
    named = model.named_parameters(remove_duplicate=False)
    state.update({name: tensor.detach() for name, tensor in (*named, *model.contents().items())})
    dense.load_state_dict(state)
    dense.storage.codecs = dict(model.storage.codecs)
    return dense
