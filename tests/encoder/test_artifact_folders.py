"""Artifacts: what is saved loads with the same logits, and every damage is one clear line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from encoder_models import TINY, logits, random_batch, random_weights
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import harness
from harness.artifacts import (
    CONFIG,
    FORMAT,
    TOKENIZER,
    WEIGHTS,
    artifact_hash,
    load_artifact,
    read_config,
    save_artifact,
    to_dense,
    verify_artifact,
)
from harness.codecs import Codec, Int8
from harness.config import LayerConfig
from harness.encoder import Encoder
from harness.errors import SkylineError
from harness.kernels import Int8Linear
from harness.profiling.size import artifact_facts
from harness.pruning import Masks, keep_largest, prunable
from harness.tokenizer import Tokenizer

BATCH = random_batch([9, 4, 17], TINY.vocab_size, pairs=True)


def sparse(model: Encoder, share: float = 0.6) -> Encoder:
    masks = Masks(model, prunable(model, embeddings=True))
    masks.replace(keep_largest(masks.magnitudes(), share, "matrix"))
    masks.store(model)
    return model


def int8(model: Encoder, per: str = "channel") -> Encoder:
    """int8 on disk and in the kernels for every linear map but the classifier, as `dynamic-int8` chooses it."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and not path.startswith("head.classifier"):
            codecs, name = model.storage.codecs, f"{path}.weight"
            codecs[name] = codecs.get(name, Codec()).with_stage(Int8(per))
            model.storage.kernels[path] = "int8"
    return model


def half(model: Encoder) -> Encoder:
    model.storage.codecs = {
        n: Codec.parse("cast(float16)") for n, p in model.named_parameters() if p.dim() > 1
    }
    return model


SHARED = TINY.with_layers((TINY.layers[0], TINY.layers[0].model_copy(update={"shares_with": 0})))
UNEVEN = TINY.with_layers(
    (
        LayerConfig(heads=1, head_size=7, ffn_size=5, ranks={"query": 1, "ffn_out": 3}),
        LayerConfig(heads=3, head_size=8, ffn_size=33),
    )
).model_copy(update={"embedding_rank": 5})
SPAN = TINY.with_head("span", 2)
BARE = TINY.with_head("none", 1)


def dense(model: Encoder) -> Encoder:
    return model


def both(model: Encoder) -> Encoder:
    return int8(sparse(model))


def per_tensor(model: Encoder) -> Encoder:
    return int8(model, "tensor")


FORMS: dict[str, Callable[[Encoder], Encoder]] = {
    "dense": dense,
    "sparse": sparse,
    "int8": int8,
    "int8-tensor": per_tensor,
    "sparse-int8": both,
    "half": half,
}
SHAPES = {"plain": TINY, "shared": SHARED, "uneven": UNEVEN, "span": SPAN, "bare": BARE}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_every_shape_reloads(shape: str, form: str, tmp_path: Path) -> None:
    model = FORMS[form](random_weights(SHAPES[shape], 0))
    before = logits(model, BATCH)
    digest = save_artifact(model, tmp_path / "a", recipe="some > recipe", parents=["b", "a"])
    assert digest == artifact_hash(tmp_path / "a") == artifact_facts(tmp_path / "a").hash
    loaded = load_artifact(tmp_path / "a")
    after = logits(loaded, BATCH)
    if form in ("dense", "sparse"):
        assert torch.equal(after, before)
    else:
        assert 0 < (after - before).abs().max() < 0.2 * before.abs().max()
    assert not loaded.training
    assert loaded.config == model.config
    assert loaded.origin == model.origin
    assert loaded.storage == model.storage
    config = read_config(tmp_path / "a")
    assert (config.format, config.recipe, config.parents) == (FORMAT, "some > recipe", ["a", "b"])
    int8_modules = [path for path, m in loaded.named_modules() if isinstance(m, Int8Linear)]
    assert sorted(int8_modules) == sorted(model.storage.kernels)
    assert all(p.device.type == "cpu" for p in [*loaded.parameters(), *loaded.buffers()])

    # A dense copy can be trained and saved again; int8 weights stay on their grid.
    copy = to_dense(loaded)
    assert copy.training
    assert all(p.requires_grad for p in copy.parameters())
    assert {n: p.shape for n, p in copy.named_parameters()} == {
        n: p.shape for n, p in model.named_parameters()
    }
    assert copy.storage.codecs == model.storage.codecs
    if not int8_modules:
        assert torch.equal(logits(copy.eval(), BATCH), after)
        assert save_artifact(copy, tmp_path / "b", "some > recipe", ["a", "b"]) == digest
    else:
        assert (logits(copy.eval(), BATCH) - after).abs().max() < 0.2 * before.abs().max()
        with pytest.raises(SkylineError, match="executes in int8 and cannot be saved"):
            save_artifact(loaded, tmp_path / "b")
        assert not (tmp_path / "b").exists()


def test_shared_layers_are_stored_once(tmp_path: Path) -> None:
    model = random_weights(SHARED, 0)
    save_artifact(model, tmp_path / "a")
    stored = load_file(tmp_path / "a" / WEIGHTS)
    assert not [name for name in stored if name.startswith("layers.1.")]
    assert sum(t.numel() for t in stored.values()) == sum(p.numel() for p in model.parameters())
    loaded = load_artifact(tmp_path / "a")
    assert loaded.layers[0] is loaded.layers[1]
    copy = to_dense(loaded)
    assert copy.layers[0] is copy.layers[1]


def test_what_a_folder_holds(tiny: Encoder, tmp_path: Path) -> None:
    save_artifact(both(tiny), tmp_path / "deep" / "a")
    folder = tmp_path / "deep" / "a"
    assert sorted(p.name for p in folder.iterdir()) == sorted([CONFIG, WEIGHTS, TOKENIZER])
    assert [p.name for p in folder.parent.iterdir()] == ["a"], "a temporary folder was left"
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o444 == 0o444
    assert folder.stat().st_mode & 0o555 == 0o555
    # No pickle: two JSON files, and a safetensors file whose header accounts for every byte.
    for name in (CONFIG, TOKENIZER):
        json.loads((folder / name).read_text(encoding="utf-8"))
    content = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(content) - 8 - length
    listed = sum(int(line.split()[4]) for line in _ls(folder) if line.endswith((CONFIG, WEIGHTS)))
    assert artifact_facts(folder).disk_bytes == listed


def _ls(folder: Path) -> list[str]:
    return subprocess.run(
        ["ls", "-l", str(folder)], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_tokenizer_travels(tiny: Encoder, tmp_path: Path) -> None:
    save_artifact(tiny, tmp_path / "a")
    texts = ["the broken bridge", "quiet"]
    loaded = load_artifact(str(tmp_path / "a"))
    assert torch.equal(loaded.encode(texts).input_ids, tiny.encode(texts).input_ids)
    save_artifact(random_weights(TINY, 0), tmp_path / "b")
    assert not (tmp_path / "b" / TOKENIZER).exists()
    with pytest.raises(SkylineError, match="no tokenizer"):
        load_artifact(tmp_path / "b").encode(texts)


def test_hash_depends_on_all_that_is_stored(tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    def save(name: str, change: Callable[[Encoder], object] = lambda model: None, recipe: str = "r") -> str:
        model = random_weights(TINY, 0, tiny_tokenizer)
        change(model)
        return save_artifact(model, tmp_path / name, recipe)

    def nudge(model: Encoder) -> None:
        model.layers[1].ffn.norm.bias.data[3] += 1e-3

    def forget(model: Encoder) -> None:
        model.tokenizer = None

    hashes = {
        "same": save("one"),
        "weights": save("weights", nudge),
        "recipe": save("recipe", recipe="s"),
        "codec": save("codec", sparse),
        "kernel": save("kernel", int8),
        "tokenizer": save("tokenizer", forget),
    }
    assert len(set(hashes.values())) == len(hashes)
    assert save("again") == hashes["same"]
    (tmp_path / "one" / "notes.txt").write_text("not part of it")
    assert artifact_hash(tmp_path / "one") == hashes["same"]


SCRIPT = """
import sys, torch
from safetensors.torch import load_file, save_file
from harness import Batch, load_artifact
torch.set_num_threads(int(sys.argv[1]))
folder = sys.argv[2]
batch = Batch(**load_file(folder + "/batch"))
with torch.inference_mode():
    save_file({name: load_artifact(folder + "/" + name)(batch).logits for name in sys.argv[3:]}, folder + "/logits")
assert not [name for name in sys.modules if name.split(".")[0] in ("methods", "transformers", "datasets")]
"""


def test_fresh_process_gives_the_same_logits(tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    expected = {}
    for name, form in FORMS.items():
        save_artifact(form(random_weights(TINY, 0, tiny_tokenizer)), tmp_path / name)
        expected[name] = logits(load_artifact(tmp_path / name), BATCH)
    save_file({name: tensor.contiguous() for name, tensor in vars(BATCH).items()}, tmp_path / "batch")
    command = [sys.executable, "-c", SCRIPT, str(torch.get_num_threads()), str(tmp_path), *FORMS]
    root = str(Path(harness.__file__).parents[1])
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    found = load_file(tmp_path / "logits")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_existing_folders_stay(tiny: Encoder, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(SkylineError, match="exists already; choose another folder or delete it"):
        save_artifact(tiny, tmp_path / "a")
    assert list((tmp_path / "a").iterdir()) == []


def test_interrupted_saving_leaves_nothing(
    tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tear(tensors: dict[str, Tensor], path: Path) -> None:
        path.write_bytes(b"torn")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("harness.artifacts.save_file", tear)
        with pytest.raises(KeyboardInterrupt):
            save_artifact(tiny, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    save_artifact(tiny, tmp_path / "a")


def test_weights_that_a_codec_cannot_hold_leave_nothing(tiny: Encoder, tmp_path: Path) -> None:
    tiny.embedding.word.weight.data[0, 0] = 1e6
    with pytest.raises(SkylineError, match="overflows float16"):
        save_artifact(half(tiny), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def edit_config(**changes: object) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        data = {**json.loads((folder / CONFIG).read_text()), **changes}
        data = {key: value for key, value in data.items() if value is not Ellipsis}
        (folder / CONFIG).write_text(json.dumps(data))

    return spoil


def edit_weights(edit: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        tensors = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
        edit(tensors)
        (folder / WEIGHTS).unlink()
        save_file(tensors, folder / WEIGHTS)

    return spoil


def cut(name: str, keep: float) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return spoil


def recode(**codecs: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        known = json.loads((folder / CONFIG).read_text())["codecs"]
        edit_config(codecs={**known, **{name.replace("__", "."): codec for name, codec in codecs.items()}})(
            folder
        )

    return spoil


NAME, WORD = "layers.1.ffn.into.weight", "embedding.word.weight"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / CONFIG).unlink(), "is no artifact"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "is no artifact"),
    "config cut": (cut(CONFIG, 0.5), "no JSON: the artifact is corrupted"),
    "config empty": (cut(CONFIG, 0), "no JSON: the artifact is corrupted"),
    "config of bytes": (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe"), "no JSON"),
    "config a list": (lambda f: (f / CONFIG).write_text("[]"), "no Skyline artifact"),
    "weights cut": (cut(WEIGHTS, 0.9), "cannot be read"),
    "weights empty": (cut(WEIGHTS, 0), "cannot be read"),
    "header cut": (cut(WEIGHTS, 0.01), "cannot be read"),
    "weights foreign": (lambda f: (f / WEIGHTS).write_bytes(b"PK\x03\x04" * 99), "cannot be read"),
    "tokenizer cut": (cut(TOKENIZER, 0.5), "tokenizer .* cannot be read"),
    "newer": (
        edit_config(format=FORMAT + 1),
        f"format {FORMAT + 1}, this Skyline reads {FORMAT}; update Skyline",
    ),
    "no recipe": (edit_config(recipe=...), "recipe: Field required"),
    "unknown field": (edit_config(colour="red"), "colour"),
    "unknown model field": (edit_config(model={"layers": [{}], "colour": "red"}), "model.colour"),
    "another model": (
        edit_config(model=UNEVEN.model_dump(mode="json")),
        "no weight|does not belong|is missing",
    ),
    "wider model": (
        edit_config(
            model=TINY.model_copy(update={"vocab_size": TINY.vocab_size + 1}).model_dump(mode="json")
        ),
        "embedding.word.weight.*mask|embedding.word.weight.*shape",
    ),
    "tensor removed": (edit_weights(lambda t: t.pop(NAME)), f"'{NAME}' is missing"),
    "tensor added": (edit_weights(lambda t: t.update(extra=torch.ones(1))), "'extra' does not belong"),
    "mask removed": (edit_weights(lambda t: t.pop(f"{NAME}::mask")), f"{NAME}.*'mask' is missing"),
    "scale removed": (edit_weights(lambda t: t.pop(f"{NAME}::scale")), f"{NAME}.*'scale' is missing"),
    "something beside": (
        edit_weights(lambda t: t.update({f"{NAME}::x": torch.ones(1)})),
        "'x' does not belong",
    ),
    "beside without values": (
        edit_weights(lambda t: t.update({f"{WORD}::mask": t.pop(WORD).to(torch.uint8)})),
        f"'{WORD}' is missing",
    ),
    "norm of another shape": (
        edit_weights(lambda t: t.update({"embedding.norm.bias": torch.ones(23)})),
        r"\(23,\) is stored where \(24,\) belongs",
    ),
    "norm of another type": (
        edit_weights(lambda t: t.update({"embedding.norm.bias": torch.ones(24, dtype=torch.int32)})),
        "embedding.norm.bias.*int32",
    ),
    "values lost": (
        edit_weights(lambda t: t.update({NAME: t[NAME][:-1].clone()})),
        "mask does not fit its values",
    ),
    "wrong codec": (recode(layers__1__ffn__into__weight="int8(tensor)+bitmask"), f"{NAME}.*scale"),
    "wrong precision": (recode(embedding__word__weight="cast(float16)+bitmask"), f"{WORD}.*float32"),
    "dense where sparse": (recode(embedding__word__weight="dense"), f"{WORD}.*mask"),
    "unknown codec": (recode(embedding__word__weight="bitmaks"), "did you mean 'bitmask'"),
    "codec of no weight": (recode(embedding__wort__weight="bitmask"), "no weight 'embedding.wort.weight'"),
    "kernel of no weight": (
        edit_config(kernels={"layers.7.ffn.into": "int8"}),
        "no weight 'layers.7.ffn.into.weight'",
    ),
    "unknown kernel": (edit_config(kernels={"layers.1.ffn.into": "int4"}), "kernel 'int4'"),
    "kernel on a dense weight": (
        edit_config(kernels={"head.classifier": "int8"}),
        "kernel 'int8' on codec 'dense'",
    ),
    "kernel on no linear map": (edit_config(kernels={"embedding.word": "int8"}), "embedding.word"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_folders(case: str, tiny: Encoder, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    save_artifact(both(tiny), folder)
    load_artifact(folder)
    spoil, says = DAMAGE[case]
    spoil(folder)
    with pytest.raises(SkylineError, match=says) as error:
        load_artifact(folder)
    assert "\n" not in str(error.value)


SEEN_BY_SIZE = ("no config", "config cut", "weights cut", "tensor removed", "tensor added", "unknown codec")


@pytest.mark.parametrize("case", SEEN_BY_SIZE)
def test_damaged_folders_have_no_size(case: str, tiny: Encoder, tmp_path: Path) -> None:
    save_artifact(both(tiny), tmp_path / "a")
    spoil, says = DAMAGE[case]
    spoil(tmp_path / "a")
    with pytest.raises(SkylineError, match=says):
        artifact_facts(tmp_path / "a")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(SkylineError, match="is no artifact: it needs"):
            load_artifact(path)


def test_hugging_face_folders_are_no_artifacts(tiny: Encoder, tmp_path: Path) -> None:
    from harness.checkpoints import load_model, save_checkpoint

    save_checkpoint(tiny, tmp_path / "hf")
    with pytest.raises(SkylineError, match="is no artifact"):
        load_artifact(tmp_path / "hf")
    save_artifact(tiny, tmp_path / "a")
    with pytest.raises(SkylineError, match="does not say 'hidden_size'"):
        load_model(str(tmp_path / "a"))


def flip(name: str, place: float, bit: int = 0) -> Callable[[Path], object]:
    """One bit of a file, at a share of its length."""

    def spoil(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[int(len(content) * place)] ^= 1 << bit
        (folder / name).write_bytes(content)

    return spoil


UNSEEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of the weights": (flip(WEIGHTS, 0.9), f"{WEIGHTS} is damaged"),
    "the sign of a weight": (flip(WEIGHTS, 0.99999, 7), f"{WEIGHTS} is damaged"),
    "the tokenizer's truncation": (
        lambda f: (f / TOKENIZER).write_text((f / TOKENIZER).read_text() + "\n"),
        f"{TOKENIZER} is damaged",
    ),
    "no tokenizer": (lambda f: (f / TOKENIZER).unlink(), f"{TOKENIZER} is missing"),
    "another recipe": (edit_config(recipe="other"), f"{CONFIG} was changed"),
    "another origin": (edit_config(origin="other"), f"{CONFIG} was changed"),
}


@pytest.mark.parametrize("case", UNSEEN)
def test_damage_that_loading_does_not_see(case: str, tiny: Encoder, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    save_artifact(int8(tiny), folder)
    verify_artifact(folder)
    spoil, says = UNSEEN[case]
    spoil(folder)
    load_artifact(folder)
    with pytest.raises(SkylineError, match=says) as error:
        verify_artifact(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_tokenizer_that_was_not_saved_with_it(tiny: Encoder, tmp_path: Path) -> None:
    tokenizer, tiny.tokenizer = tiny.tokenizer, None
    save_artifact(tiny, tmp_path / "a")
    verify_artifact(tmp_path / "a")
    assert tokenizer is not None
    (tmp_path / "a" / TOKENIZER).write_text(tokenizer.to_json())
    with pytest.raises(SkylineError, match=f"{TOKENIZER} was not saved with the artifact"):
        verify_artifact(tmp_path / "a")


@pytest.mark.parametrize("case", ["no weights", "config cut", "newer"])
def test_verifying_what_cannot_be_loaded(case: str, tiny: Encoder, tmp_path: Path) -> None:
    save_artifact(tiny, tmp_path / "a")
    spoil, says = DAMAGE[case]
    spoil(tmp_path / "a")
    with pytest.raises(SkylineError, match=says):
        verify_artifact(tmp_path / "a")


def test_digests_are_those_of_the_files(tiny: Encoder, tmp_path: Path) -> None:
    """Oracle: sha256sum. The layout of config.json does not matter to its own digest."""
    save_artifact(tiny, tmp_path / "a")
    promised = read_config(tmp_path / "a").digests
    assert set(promised) == {CONFIG, WEIGHTS, TOKENIZER}
    command = ["sha256sum", WEIGHTS, TOKENIZER]
    lines = subprocess.run(command, cwd=tmp_path / "a", capture_output=True, text=True, check=True).stdout
    assert {name: digest for digest, name in map(str.split, lines.splitlines())}.items() <= promised.items()
    data = json.loads((tmp_path / "a" / CONFIG).read_text())
    (tmp_path / "a" / CONFIG).write_text(json.dumps(data, indent=3))
    verify_artifact(tmp_path / "a")


def test_artifacts_from_before_there_were_digests(tiny: Encoder, tmp_path: Path) -> None:
    save_artifact(tiny, tmp_path / "a")
    edit_config(digests=...)(tmp_path / "a")
    verify_artifact(tmp_path / "a")
    assert torch.equal(logits(load_artifact(tmp_path / "a"), BATCH), logits(tiny, BATCH))
