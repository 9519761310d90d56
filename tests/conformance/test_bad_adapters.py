"""The conformance suite catches bad adapters: each fails the check that is meant for its fault, and no other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from harness.conformance import Blocked, Broken, Subject, declaration, run_check
from harness.conformance.tiny import tiny_encoder, tiny_tokenizer
from harness.recipes.discovery import discover, load_file, methods_of
from tests.support.bad_adapters import BAD, BAD_CARDS, BAD_OPTIONS, NO_CODECS, conform, first, top, write


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("fault", BAD)
def test_each_fault_fails_its_own_check(fault: str, tmp_path: Path) -> None:
    changes, expected, words = BAD[fault]
    failures = conform(tmp_path, changes)
    assert {failure.check for failure in failures} == expected, failures
    assert all("\n" not in str(failure) for failure in failures)
    if expected:
        assert any(words in failure.message for failure in failures), failures


@pytest.mark.parametrize("fault", BAD_OPTIONS)
def test_options(fault: str, tmp_path: Path) -> None:
    changes, words = BAD_OPTIONS[fault]
    [failure] = conform(tmp_path, changes, ("card", "identity", "options", "runs"))
    assert failure.check == "options"
    assert words in failure.message


@pytest.mark.parametrize("old", BAD_CARDS)
def test_cards(old: str, tmp_path: Path) -> None:
    new, words = BAD_CARDS[old]
    [failure] = conform(tmp_path, {old: new}, ("card",))
    assert words in failure.message


def test_a_card_must_name_the_family_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "early_exit"
    folder.mkdir()
    [failure] = conform(folder, {}, ("card",))
    assert "family is 'quantization', but its file stands in early_exit" in failure.message


@pytest.mark.parametrize("cost", ["disk", "parameters", "flops", "latency", "memory"])
def test_a_claimed_cost_must_be_smaller(cost: str, tmp_path: Path) -> None:
    [failure] = conform(tmp_path, NO_CODECS | {'("disk",)': f'("{cost}",)'}, ("costs",))
    assert f"claims to reduce {cost}" in failure.message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import os; os.environ['KMP_BLOCKTIME'] = '0'", "the environment (KMP_BLOCKTIME)"),
        ("import torch; torch.set_default_dtype(torch.bfloat16)", "torch's default dtype"),
        ("import torch; torch.manual_seed(1)", "torch's global generator"),
        ("import sys; sys.path.append('elsewhere')", "the import path"),
    ],
)
def test_importing_must_change_no_global_state(line: str, words: str, tmp_path: Path) -> None:
    path = write(tmp_path, top(line))
    with Subject(discover().get("dynamic-int8"), path) as subject, pytest.raises(Broken) as caught:
        run_check("global-state", subject)
    assert f"importing the file changes {words}" in str(caught.value)
    assert "KMP_BLOCKTIME" not in os.environ


def test_a_slow_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declaration, "IMPORT_SECONDS", -1.0)
    [failure] = conform(tmp_path, {}, ("import",))
    assert "do that work inside the hooks" in failure.message


def test_what_hides_behind_another_fault_is_blocked(tmp_path: Path) -> None:
    path = write(tmp_path, first("raise RuntimeError"))
    [method] = methods_of(load_file(path, "halve_under_test"))
    with Subject(method, path) as subject:
        for check in (
            "reproducible",
            "teacher",
            "reload",
            "finite",
            "independence",
            "costs",
            "record",
            "composes",
        ):
            with pytest.raises(Blocked, match=r"'halve'.*RuntimeError$"):
                run_check(check, subject)


def test_a_conformance_run_leaves_this_process_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    state, environment = torch.get_rng_state(), dict(os.environ)
    noise = (
        "import os, torch",
        "os.environ['OMP_PROC_BIND'] = 'true'",
        "torch.manual_seed(1)",
        "torch.rand(3)",
    )
    conform(tmp_path, first(*noise), ("runs", "reproducible", "composes"))
    assert torch.equal(torch.get_rng_state(), state)
    assert dict(os.environ) == environment


def test_the_tiny_encoder_is_the_same_each_time() -> None:
    one, other = tiny_encoder(), tiny_encoder()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(next(tiny_encoder(1).parameters()), next(one.parameters()))
    assert tiny_tokenizer().vocab_size == one.config.vocab_size
    batch = one.encode(["The film was anything but dull.", "No."])
    [words] = tiny_tokenizer().tokens(["The film was anything but dull."], None, 64)
    assert "[UNK]" not in words.tokens
    assert words.tokens[:4] == ["[CLS]", "the", "film", "was"]
    logits = one(batch).logits
    assert (logits[0] - logits[1]).abs().max() > 0.1, "the logits should depend on the sentence"
