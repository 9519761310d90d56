"""Damaged artifacts: every damage is one clear line, when loading or by the digests."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from harness.common.errors import SkylineError
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


DAMAGE: dict[str, tuple[Damage, str]] = {
    "no config": (drop(CONFIG), "is no artifact"),
    "no weights": (drop(WEIGHTS), "is no artifact"),
    "config cut": (cut(CONFIG, 0.5), "no JSON: the artifact is corrupted"),
    "config empty": (cut(CONFIG, 0), "no JSON: the artifact is corrupted"),
    "config of bytes": (write(CONFIG, b"\xff\xfe"), "no JSON"),
    "config a list": (write(CONFIG, b"[]"), "no Skyline artifact"),
    "weights cut": (cut(WEIGHTS, 0.9), "cannot be read"),
    "weights empty": (cut(WEIGHTS, 0), "cannot be read"),
    "header cut": (cut(WEIGHTS, 0.01), "cannot be read"),
    "weights foreign": (write(WEIGHTS, b"PK\x03\x04" * 99), "cannot be read"),
    "tokenizer cut": (cut(TOKENIZER, 0.5), "tokenizer .* cannot be read"),
    "newer": (
        change_config(format=FORMAT + 1),
        f"format {FORMAT + 1}, this Skyline reads {FORMAT}; update Skyline",
    ),
    "no recipe": (change_config(recipe=...), "recipe: Field required"),
    "unknown field": (change_config(colour="red"), "colour"),
    "unknown model field": (change_config(model={"layers": [{}], "colour": "red"}), "model.colour"),
    "another model": (
        change_config(model=UNEVEN.model_dump(mode="json")),
        "no weight|does not belong|is missing",
    ),
    "wider model": (
        change_config(
            model=TINY.model_copy(update={"vocab_size": TINY.vocab_size + 1}).model_dump(mode="json")
        ),
        "embedding.word.weight.*mask|embedding.word.weight.*shape",
    ),
    "tensor removed": (change_weights(WEIGHTS, lambda t: t.pop(NAME)), f"'{NAME}' is missing"),
    "tensor added": (
        change_weights(WEIGHTS, lambda t: t.update(extra=torch.ones(1))),
        "'extra' does not belong",
    ),
    "mask removed": (change_weights(WEIGHTS, lambda t: t.pop(f"{NAME}::mask")), f"{NAME}.*'mask' is missing"),
    "scale removed": (
        change_weights(WEIGHTS, lambda t: t.pop(f"{NAME}::scale")),
        f"{NAME}.*'scale' is missing",
    ),
    "something beside": (
        change_weights(WEIGHTS, lambda t: t.update({f"{NAME}::x": torch.ones(1)})),
        "'x' does not belong",
    ),
    "beside without values": (
        change_weights(WEIGHTS, lambda t: t.update({f"{WORD}::mask": t.pop(WORD).to(torch.uint8)})),
        f"'{WORD}' is missing",
    ),
    "norm of another shape": (
        change_weights(WEIGHTS, lambda t: t.update({"embedding.norm.bias": torch.ones(23)})),
        r"\(23,\) is stored where \(24,\) belongs",
    ),
    "norm of another type": (
        change_weights(
            WEIGHTS, lambda t: t.update({"embedding.norm.bias": torch.ones(24, dtype=torch.int32)})
        ),
        "embedding.norm.bias.*int32",
    ),
    "values lost": (
        change_weights(WEIGHTS, lambda t: t.update({NAME: t[NAME][:-1].clone()})),
        "mask does not fit its values",
    ),
    "wrong codec": (recode(layers__1__ffn__into__weight="int8(tensor)+bitmask"), f"{NAME}.*scale"),
    "wrong precision": (recode(embedding__word__weight="cast(float16)+bitmask"), f"{WORD}.*float32"),
    "dense where sparse": (recode(embedding__word__weight="dense"), f"{WORD}.*mask"),
    "unknown codec": (recode(embedding__word__weight="bitmaks"), "did you mean 'bitmask'"),
    "codec of no weight": (recode(embedding__wort__weight="bitmask"), "no weight 'embedding.wort.weight'"),
    "kernel of no weight": (
        change_config(kernels={"layers.7.ffn.into": "int8"}),
        "no weight 'layers.7.ffn.into.weight'",
    ),
    "unknown kernel": (change_config(kernels={"layers.1.ffn.into": "int4"}), "kernel 'int4'"),
    "kernel on a dense weight": (
        change_config(kernels={"head.classifier": "int8"}),
        "kernel 'int8' on codec 'dense'",
    ),
    "kernel on no linear map": (change_config(kernels={"embedding.word": "int8"}), "embedding.word"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_folders(case: str, tiny: Encoder, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    save_artifact(both(tiny), folder)
    load_artifact(folder)
    spoil, says = DAMAGE[case]
    spoil(folder)
    with refused(says):
        load_artifact(folder)


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
    from harness.models.checkpoints import load_model, save_checkpoint

    save_checkpoint(tiny, tmp_path / "hf")
    with pytest.raises(SkylineError, match="is no artifact"):
        load_artifact(tmp_path / "hf")
    save_artifact(tiny, tmp_path / "a")
    with pytest.raises(SkylineError, match="does not say 'hidden_size'"):
        load_model(str(tmp_path / "a"))


UNSEEN: dict[str, tuple[Damage, str]] = {
    "a bit of the weights": (flip(WEIGHTS, 0.9), f"{WEIGHTS} is damaged"),
    "the sign of a weight": (flip(WEIGHTS, 0.99999, 7), f"{WEIGHTS} is damaged"),
    "the tokenizer's truncation": (
        lambda f: (f / TOKENIZER).write_text((f / TOKENIZER).read_text() + "\n"),
        f"{TOKENIZER} is damaged",
    ),
    "no tokenizer": (drop(TOKENIZER), f"{TOKENIZER} is missing"),
    "another recipe": (change_config(recipe="other"), f"{CONFIG} was changed"),
    "another origin": (change_config(origin="other"), f"{CONFIG} was changed"),
}


@pytest.mark.parametrize("case", UNSEEN)
def test_damage_that_loading_does_not_see(case: str, tiny: Encoder, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    save_artifact(int8(tiny), folder)
    verify_artifact(folder)
    spoil, says = UNSEEN[case]
    spoil(folder)
    load_artifact(folder)
    with refused(says) as error:
        verify_artifact(folder)
    assert str(folder) in str(error.value)


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
    change_config(digests=...)(tmp_path / "a")
    verify_artifact(tmp_path / "a")
    assert torch.equal(logits(load_artifact(tmp_path / "a"), BATCH), logits(tiny, BATCH))
