"""Artifacts: the folders that recipes produce, with `config.json`, `weights.safetensors` and `tokenizer.json`.

Nothing is pickled. Scores, sizes and times are measured on a model loaded from such a folder, so all figures of a row
belong to the same bytes.
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

from harness.common.errors import Code, SkylineError
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
    """The content of config.json. `codecs` names only tensors that are not stored as dense float32.

    `digests` maps each other file to its SHA-256, and config.json to the SHA-256 of its own content without that entry
    (see `verify_artifact`). It is empty in artifacts from before digests were introduced.
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
    """Write `model` as an artifact, with the codecs of `model.storage`, and return its hash.

    The folder appears whole or not at all. Raises SkylineError if it exists already (EXISTS), a parameter is still
    parametrized (INVALID), a codec cannot hold its weight, or the model executes on compressed weights (see
    `to_dense`).
    """
    require_dense(model)
    if left := attached(model):
        raise SkylineError(
            f"'{left[0]}' is still parametrized; the method that did so has to bake it in its finish",
            Code.INVALID,
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


def _damaged(problem: str) -> SkylineError:
    return SkylineError(f"{problem}; make the artifact again", Code.DAMAGED)


def _content_digest(data: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the content of config.json without this digest; its layout does not matter."""
    digests = {name: value for name, value in data["digests"].items() if name != CONFIG}
    text = json.dumps({**data, "digests": digests}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def verify_artifact(folder: Path) -> None:
    """Raise SkylineError (DAMAGED) unless an artifact's files are as they were saved.

    Weights and tokenizer must have the same bytes, the configuration the same content, and no file may be missing or
    added. Unlike loading, this reads every byte. In an artifact without digests only the configuration is read.
    """
    promised = read_config(folder).digests
    if not promised:
        return
    for name in (WEIGHTS, TOKENIZER):
        path, digest = folder / name, promised.get(name)
        if digest is None and path.is_file():
            raise _damaged(f"{path} was not saved with the artifact")
        if digest is not None and not path.is_file():
            raise _damaged(f"{folder}: {name} is missing")
        if digest is not None and fresh_sha256(path) != digest:
            raise _damaged(f"{path} is damaged (its sha256 is not the saved one)")
    data = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if _content_digest(data) != promised.get(CONFIG):
        raise _damaged(f"{folder / CONFIG} was changed after it was saved")


def artifact_hash(folder: Path) -> str:
    """Return the SHA-256 over the names, sizes and bytes of the artifact's files."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        if (folder / name).is_file():
            digest.update(f"{name}\0{(folder / name).stat().st_size}\0".encode())
            with (folder / name).open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def read_config(folder: Path) -> ArtifactConfig:
    """Read config.json.

    Raises SkylineError if the folder is not an artifact (NOT_FOUND), config.json is not JSON (UNREADABLE) or has wrong
    fields (DAMAGED), or its format is another one (WRONG_VERSION).
    """
    path = folder / CONFIG
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        raise SkylineError(f"{folder} is not an artifact: it needs {CONFIG} and {WEIGHTS}", Code.NOT_FOUND)
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise SkylineError(
            f"{path} is not JSON: the artifact is corrupted; make it again", Code.UNREADABLE
        ) from None
    if isinstance(data, dict) and data.get("format", FORMAT) != FORMAT:
        raise SkylineError(
            f"{path} has format {data['format']}, this Skyline reads {FORMAT}; update Skyline",
            Code.WRONG_VERSION,
        )
    try:
        return ArtifactConfig.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        # In an error of `model`, pydantic inserts the tag of the model's kind as the second part.
        parts = [part for place, part in enumerate(first["loc"]) if place != 1 or first["loc"][0] != "model"]
        where = ".".join(map(str, parts))
        raise SkylineError(
            f"{path} is not a Skyline artifact: {where}: {first['msg']}; make it again", Code.DAMAGED
        ) from None


class EncodedWeights:
    """The stored form of a model's parameters `names`, read one at a time, so that memory never holds them twice.

    The constructor raises SkylineError if the weights' file cannot be read (UNREADABLE), or if file, `config` and
    `names` do not agree (DAMAGED).
    """

    def __init__(self, folder: Path, config: ArtifactConfig, names: Collection[str]) -> None:
        asked = {*config.codecs, *(f"{path}.weight" for path in config.kernels)}
        if foreign := sorted(asked - set(names)):
            raise _damaged(f"{folder / CONFIG}: the model has no weight '{foreign[0]}'")
        self._path = folder / WEIGHTS
        self._suffixes: dict[str, list[str]] = {name: [] for name in names}
        stored = _stored_names(self._path)
        for full in stored:
            name, separator, suffix = full.partition("::")
            if name not in self._suffixes:
                raise _damaged(f"{self._path}: tensor '{full}' does not belong to the model")
            if separator:
                self._suffixes[name].append(suffix)
        if missing := sorted(set(names) - stored):
            raise _damaged(f"{self._path}: tensor '{missing[0]}' is missing")

    def __iter__(self) -> Iterator[tuple[str, Encoded]]:
        """Yield the name and stored form of each parameter, in the order of `names`."""
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
        raise SkylineError(
            f"{path} cannot be read ({error}); make the artifact again", Code.UNREADABLE
        ) from None


def _stored_names(path: Path) -> set[str]:
    with _opened(path) as file:
        return set(file.keys())


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return all stored tensors by name. Raises SkylineError (UNREADABLE) if the file cannot be read."""
    with _opened(folder / WEIGHTS) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


def load_artifact(folder: Path | str) -> Model:
    """Load an artifact in evaluation mode, with its int8 kernels installed.

    Raises the errors of `read_config` and `EncodedWeights`, and SkylineError (DAMAGED) for a weight that does not fit
    its codec or kernel.
    """
    folder = Path(folder)
    config = read_config(folder)
    tokenizer = Tokenizer.from_folder(folder) if (folder / TOKENIZER).is_file() else None
    # Build without memory for the weights, which come from the file.
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
            raise SkylineError(f"{folder}: {name}: {error}", Code.DAMAGED) from None
    return model.eval()


def load_encoder(folder: Path | str) -> Encoder:
    """Load an artifact that holds an encoder, as a baseline does. Raises SkylineError (WRONG_KIND) for a student."""
    model = load_artifact(folder)
    if not isinstance(model, Encoder):
        raise SkylineError(
            f"{folder} holds a '{model.config.kind}' student, not an encoder; name another artifact",
            Code.WRONG_KIND,
        )
    return model


def _install_kernel(model: Model, path: str, codec: Codec, encoded: Encoded, shape: torch.Size) -> None:
    kind = model.storage.kernels[path]
    if kind != "int8" or codec.find("int8") is None:
        raise _damaged(f"module '{path}' asks for kernel '{kind}' on codec '{codec}'")
    linear = model.get_submodule(path)
    bias = linear.bias if isinstance(linear, nn.Linear) else None
    weight = codec.unpack(encoded, shape)  # int8 (out, in)
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
    """Return a trainable float32 copy of a loaded model: int8 kernels become linear layers again; codecs are kept."""
    with nothing_drawn():
        dense = make_model(model.config, model.tokenizer, model.origin)
    state: dict[str, Tensor] = {}
    # A state dict holds a shared layer under each of its names, so duplicates stay.
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, Int8Linear):
            scale = module.scale if module.scale.dim() == 0 else module.scale[:, None]  # () or (out, 1)
            state[f"{path}.weight"] = module.weight.float() * scale
            if module.bias is not None:
                state[f"{path}.bias"] = module.bias
    named = model.named_parameters(remove_duplicate=False)
    state.update({name: tensor.detach() for name, tensor in (*named, *model.contents().items())})
    dense.load_state_dict(state)
    dense.storage.codecs = dict(model.storage.codecs)
    return dense
