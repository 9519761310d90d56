"""Damaged artifacts: loading or the digests report every damage in one clear line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from harness.common.errors import Code
from harness.models.artifacts import (
    CONFIG,
    FORMAT,
    TOKENIZER,
    WEIGHTS,
    load_artifact,
    read_config,
    save_artifact,
    verify_artifact,
)
from harness.models.encoder.encoder import Encoder
from harness.profiling.costs.size import artifact_facts
from tests.support.artifact_forms import BATCH, UNEVEN, both, int8
from tests.support.encoder_models import TINY, logits
from tests.support.folder_damage import Damage, change_config, change_weights, cut, drop, flip, write
from tests.support.one_line_errors import refused

NAME, WORD = "layers.1.ffn.into.weight", "embedding.word.weight"


def recode(**codecs: str) -> Damage:
    def spoil(folder: Path) -> None:
        known = json.loads((folder / CONFIG).read_text())["codecs"]
        change_config(codecs={**known, **{name.replace("__", "."): codec for name, codec in codecs.items()}})(
            folder
        )

    return spoil


DAMAGE: dict[str, tuple[Damage, Code | str, list[str]]] = {
    "no config": (drop(CONFIG), Code.NOT_FOUND, [CONFIG]),
    "no weights": (drop(WEIGHTS), Code.NOT_FOUND, [WEIGHTS]),
    "config cut": (cut(CONFIG, 0.5), Code.UNREADABLE, [CONFIG]),
    "config empty": (cut(CONFIG, 0), Code.UNREADABLE, [CONFIG]),
    "config of bytes": (write(CONFIG, b"\xff\xfe"), Code.UNREADABLE, [CONFIG]),
    "config a list": (write(CONFIG, b"[]"), Code.DAMAGED, [CONFIG]),
    "weights cut": (cut(WEIGHTS, 0.9), Code.UNREADABLE, [WEIGHTS]),
    "weights empty": (cut(WEIGHTS, 0), Code.UNREADABLE, [WEIGHTS]),
    "header cut": (cut(WEIGHTS, 0.01), Code.UNREADABLE, [WEIGHTS]),
    "weights foreign": (write(WEIGHTS, b"PK\x03\x04" * 99), Code.UNREADABLE, [WEIGHTS]),
    "tokenizer cut": (cut(TOKENIZER, 0.5), "tokenizer", []),
    "newer": (
        change_config(format=FORMAT + 1),
        Code.WRONG_VERSION,
        [f"format {FORMAT + 1}", f"reads {FORMAT}"],
    ),
    "no recipe": (change_config(recipe=...), Code.DAMAGED, [CONFIG, "recipe"]),
    "unknown field": (change_config(colour="red"), Code.DAMAGED, [CONFIG, "colour"]),
    "unknown model field": (
        change_config(model={"layers": [{}], "colour": "red"}),
        Code.DAMAGED,
        [CONFIG, "model.colour"],
    ),
    "another model": (change_config(model=UNEVEN.model_dump(mode="json")), Code.DAMAGED, []),
    "wider model": (
        change_config(
            model=TINY.model_copy(update={"vocab_size": TINY.vocab_size + 1}).model_dump(mode="json")
        ),
        Code.DAMAGED,
        [WORD, "mask"],
    ),
    "tensor removed": (change_weights(WEIGHTS, lambda t: t.pop(NAME)), Code.DAMAGED, [WEIGHTS, f"'{NAME}'"]),
    "tensor added": (
        change_weights(WEIGHTS, lambda t: t.update(extra=torch.ones(1))),
        Code.DAMAGED,
        [WEIGHTS, "'extra'"],
    ),
    "mask removed": (
        change_weights(WEIGHTS, lambda t: t.pop(f"{NAME}::mask")),
        Code.DAMAGED,
        [NAME, "'mask'"],
    ),
    "scale removed": (
        change_weights(WEIGHTS, lambda t: t.pop(f"{NAME}::scale")),
        Code.DAMAGED,
        [NAME, "'scale'"],
    ),
    "unknown suffix": (
        change_weights(WEIGHTS, lambda t: t.update({f"{NAME}::x": torch.ones(1)})),
        Code.DAMAGED,
        [NAME, "'x'"],
    ),
    "mask without values": (
        change_weights(WEIGHTS, lambda t: t.update({f"{WORD}::mask": t.pop(WORD).to(torch.uint8)})),
        Code.DAMAGED,
        [f"'{WORD}'"],
    ),
    "norm of another shape": (
        change_weights(WEIGHTS, lambda t: t.update({"embedding.norm.bias": torch.ones(23)})),
        Code.DAMAGED,
        ["embedding.norm.bias", "(23,)", "(24,)"],
    ),
    "norm of another type": (
        change_weights(
            WEIGHTS, lambda t: t.update({"embedding.norm.bias": torch.ones(24, dtype=torch.int32)})
        ),
        Code.DAMAGED,
        ["embedding.norm.bias", "int32"],
    ),
    "values lost": (
        change_weights(WEIGHTS, lambda t: t.update({NAME: t[NAME][:-1].clone()})),
        Code.DAMAGED,
        [NAME, "mask"],
    ),
    "wrong codec": (
        recode(layers__1__ffn__into__weight="int8(tensor)+bitmask"),
        Code.DAMAGED,
        [NAME, "scale"],
    ),
    "wrong precision": (
        recode(embedding__word__weight="cast(float16)+bitmask"),
        Code.DAMAGED,
        [WORD, "float32"],
    ),
    "dense where sparse": (recode(embedding__word__weight="dense"), Code.DAMAGED, [WORD, "mask"]),
    "unknown codec": (recode(embedding__word__weight="bitmaks"), Code.UNKNOWN_NAME, ["'bitmask'"]),
    "codec of no weight": (
        recode(embedding__wort__weight="bitmask"),
        Code.DAMAGED,
        [CONFIG, "'embedding.wort.weight'"],
    ),
    "kernel of no weight": (
        change_config(kernels={"layers.7.ffn.into": "int8"}),
        Code.DAMAGED,
        [CONFIG, "'layers.7.ffn.into.weight'"],
    ),
    "unknown kernel": (
        change_config(kernels={"layers.1.ffn.into": "int4"}),
        Code.DAMAGED,
        ["layers.1.ffn.into", "'int4'"],
    ),
    "kernel on a dense weight": (
        change_config(kernels={"head.classifier": "int8"}),
        Code.DAMAGED,
        ["head.classifier", "'int8'", "'dense'"],
    ),
    "kernel on an embedding": (
        change_config(kernels={"embedding.word": "int8"}),
        Code.DAMAGED,
        ["embedding.word"],
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_folders(case: str, tiny: Encoder, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    save_artifact(both(tiny), folder)
    load_artifact(folder)
    spoil, code, names = DAMAGE[case]
    spoil(folder)
    with refused(code, *names):
        load_artifact(folder)


SEEN_BY_SIZE = ("no config", "config cut", "weights cut", "tensor removed", "tensor added", "unknown codec")


@pytest.mark.parametrize("case", SEEN_BY_SIZE)
def test_damaged_folders_have_no_size(case: str, tiny: Encoder, tmp_path: Path) -> None:
    save_artifact(both(tiny), tmp_path / "a")
    spoil, code, names = DAMAGE[case]
    spoil(tmp_path / "a")
    with refused(code, *names):
        artifact_facts(tmp_path / "a")


def test_a_folder_without_an_artifact(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with refused(Code.NOT_FOUND, str(path), CONFIG, WEIGHTS):
            load_artifact(path)


def test_hugging_face_folders_are_no_artifacts(tiny: Encoder, tmp_path: Path) -> None:
    from harness.models.checkpoints import load_model, save_checkpoint

    save_checkpoint(tiny, tmp_path / "hf")
    with refused(Code.NOT_FOUND, str(tmp_path / "hf"), WEIGHTS):
        load_artifact(tmp_path / "hf")
    save_artifact(tiny, tmp_path / "a")
    with refused(Code.INCOMPLETE, "'hidden_size'"):
        load_model(str(tmp_path / "a"))


UNSEEN: dict[str, tuple[Damage, str]] = {
    "a bit of the weights": (flip(WEIGHTS, 0.9), WEIGHTS),
    "the sign of a weight": (flip(WEIGHTS, 0.99999, 7), WEIGHTS),
    "a byte more in the tokenizer": (
        lambda f: (f / TOKENIZER).write_text((f / TOKENIZER).read_text() + "\n"),
        TOKENIZER,
    ),
    "no tokenizer": (drop(TOKENIZER), TOKENIZER),
    "another recipe": (change_config(recipe="other"), CONFIG),
    "another origin": (change_config(origin="other"), CONFIG),
}


@pytest.mark.parametrize("case", UNSEEN)
def test_damage_that_loading_does_not_see(case: str, tiny: Encoder, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    save_artifact(int8(tiny), folder)
    verify_artifact(folder)
    spoil, file = UNSEEN[case]
    spoil(folder)
    load_artifact(folder)
    with refused(Code.DAMAGED, str(folder), file):
        verify_artifact(folder)


def test_a_tokenizer_that_was_not_saved_with_it(tiny: Encoder, tmp_path: Path) -> None:
    tokenizer, tiny.tokenizer = tiny.tokenizer, None
    save_artifact(tiny, tmp_path / "a")
    verify_artifact(tmp_path / "a")
    assert tokenizer is not None
    (tmp_path / "a" / TOKENIZER).write_text(tokenizer.to_json())
    with refused(Code.DAMAGED, str(tmp_path / "a" / TOKENIZER)):
        verify_artifact(tmp_path / "a")


@pytest.mark.parametrize("case", ["no weights", "config cut", "newer"])
def test_verifying_what_cannot_be_loaded(case: str, tiny: Encoder, tmp_path: Path) -> None:
    save_artifact(tiny, tmp_path / "a")
    spoil, code, names = DAMAGE[case]
    spoil(tmp_path / "a")
    with refused(code, *names):
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
    change_config(digests=...)(tmp_path / "a")
    verify_artifact(tmp_path / "a")
    assert torch.equal(logits(load_artifact(tmp_path / "a"), BATCH), logits(tiny, BATCH))
