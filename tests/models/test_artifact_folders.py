"""Artifacts: a saved model loads with the same logits, and the folder has the right files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import harness
from harness.common.errors import Code
from harness.models.artifacts import (
    CONFIG,
    FORMAT,
    TOKENIZER,
    WEIGHTS,
    artifact_hash,
    load_artifact,
    read_config,
    save_artifact,
    to_dense,
)
from harness.models.encoder.encoder import Encoder
from harness.models.int8_linear import Int8Linear
from harness.models.tokenizer import Tokenizer
from harness.profiling.costs.size import artifact_facts
from tests.support.artifact_forms import BATCH, FORMS, SHAPES, SHARED, both, half, int8, sparse
from tests.support.encoder_models import TINY, logits, random_weights
from tests.support.one_line_errors import refused


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
        named = loaded.contents()
        assert all(torch.equal(named[name], tensor) for name, tensor in model.contents().items())
        # Some processors sum in another order if a mapped file's weights begin off a cache line.
        assert torch.allclose(after, before, rtol=0, atol=1e-6)
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
        assert torch.allclose(logits(copy.eval(), BATCH), after, rtol=0, atol=1e-6)
        assert save_artifact(copy, tmp_path / "b", "some > recipe", ["a", "b"]) == digest
    else:
        assert (logits(copy.eval(), BATCH) - after).abs().max() < 0.2 * before.abs().max()
        with refused("int8"):
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
    listed = sum(int(line.split()[4]) for line in listing(folder) if line.endswith((CONFIG, WEIGHTS)))
    assert artifact_facts(folder).disk_bytes == listed


def listing(folder: Path) -> list[str]:
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
    with refused("tokenizer"):
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
    with refused("exists", str(tmp_path / "a")):
        save_artifact(tiny, tmp_path / "a")
    assert list((tmp_path / "a").iterdir()) == []


def test_interrupted_saving_leaves_nothing(
    tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tear(tensors: dict[str, Tensor], path: Path) -> None:
        path.write_bytes(b"torn")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("harness.models.artifacts.save_file", tear)
        with pytest.raises(KeyboardInterrupt):
            save_artifact(tiny, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    save_artifact(tiny, tmp_path / "a")


def test_weights_that_a_codec_cannot_hold_leave_nothing(tiny: Encoder, tmp_path: Path) -> None:
    tiny.embedding.word.weight.data[0, 0] = 1e6
    with refused(Code.OUT_OF_RANGE, "float16"):
        save_artifact(half(tiny), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
