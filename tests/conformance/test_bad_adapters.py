"""The conformance suite catches bad adapters: each fails the check that is meant for its fault, and no other."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.conformance import (
    CHECKS,
    Blocked,
    Broken,
    Failure,
    Subject,
    behaviour,
    declaration,
    run_check,
    run_conformance,
)
from harness.conformance.tiny import tiny_encoder, tiny_tokenizer
from harness.discovery import discover, load_file, methods_of
from harness.encoder import Attention, Head
from harness.kernels import Int8Linear
from harness.profiling import flops

GOOD = '''
"""Stores every weight in 16 bits."""

from __future__ import annotations

from typing import Literal

from harness import Card, Method, Paper, options


class Halve(Method):
    card = Card(
        id="halve",
        title="Halve",
        family="quantization",
        paper=Paper("A title", "Somebody", 2019, "A venue", "https://example.org"),
        scope="task-specific",
        fidelity="variant",
        deviations="Everything.",
        touches=("ffn",),
        reduces=("disk",),
    )
    trains = False

    @options
    class Options:
        """`dtype`: the type that weights are stored in."""

        dtype: Literal["float16", "bfloat16"] = "float16"

    suite = {"dtype": ("float16", "bfloat16")}

    def finish(self, student, context):
        from harness.codecs import Cast, Codec

        # first
        for name, _ in student.named_parameters():
            student.storage.codecs[name] = Codec((Cast(self.options.dtype),))
        # last
'''
FIRST, LAST = "        # first\n", "        # last\n"
CLASS = "class Halve(Method):\n"


def first(*lines: str) -> dict[str, str]:
    """Lines at the beginning of `finish`."""
    return {FIRST: "".join(f"        {line}\n" for line in lines)}


def last(*lines: str) -> dict[str, str]:
    """Lines at its end."""
    return {LAST: "".join(f"        {line}\n" for line in lines)}


def top(*lines: str) -> dict[str, str]:
    """Lines before the class."""
    return {CLASS: "".join(f"{line}\n" for line in (*lines, "", "")) + CLASS}


def hook(*lines: str) -> dict[str, str]:
    """A further hook."""
    return {"    def finish(": "".join(f"    {line}\n" for line in (*lines, "")) + "    def finish("}


NO_CODECS = {"student.storage.codecs[name] = Codec((Cast(self.options.dtype),))": "pass"}

BAD: dict[str, tuple[dict[str, str], set[str], str]] = {
    "good": ({}, set(), ""),
    "changes-the-teacher": (
        hook("def prepare(self, student, context):", "    context.teacher.head.classifier.bias.data.add_(1)"),
        {"teacher"},
        "the teacher: weight 'head.classifier.bias'",
    ),
    "leaves-the-teacher-training": (
        first("context.teacher.layers[1].train()"),
        {"teacher"},
        "training flag of 'layers.1'",
    ),
    "freezes-the-teacher": (
        first("context.teacher.embedding.requires_grad_(False)"),
        {"teacher"},
        "requires_grad of 'embedding.word.weight'",
    ),
    "hooks-the-teacher": (
        first("context.teacher.head.register_forward_hook(lambda module, args, output: output)"),
        {"teacher"},
        "module 'head'",
    ),
    "returns-what-it-was-given": (
        hook("def student(self, teacher, context):", "    return teacher"),
        {"teacher"},
        "the student is no copy",
    ),
    "imports-torch-at-the-top": (top("import torch"), {"import"}, "imports torch; import that inside the hooks"),
    "prints-on-import": (top("print('hello')"), {"import"}, "prints 'hello'"),
    "claims-disk-without-saving": (NO_CODECS, {"costs"}, "claims to reduce disk"),
    "draws-from-numpy": (
        first("import numpy as np", "student.head.classifier.bias.data.add_(float(np.random.rand()))"),
        {"global-state", "reproducible"},
        "NumPy's global generator",
    ),
    "draws-from-torch": (
        first("import torch", "student.head.classifier.bias.data.add_(torch.rand(2))"),
        {"reproducible"},
        "tensor 'head.classifier.bias' differs",
    ),
    "draws-from-the-system": (
        first("import os", "student.head.classifier.bias.data.add_(os.urandom(1)[0] + os.urandom(1)[0] / 256)"),
        {"reproducible"},
        "two runs with one seed",
    ),
    "seeds-torch": (
        first("import torch", "torch.manual_seed(7)"),
        {"global-state"},
        "draw from or seed torch's global generator",
    ),
    "seeds-python": (
        first("import random", "random.seed(7)"),
        {"global-state"},
        "Python's global generator",
    ),
    "sets-the-environment": (
        first("import os", "os.environ['OMP_PROC_BIND'] = 'true'"),
        {"global-state"},
        "the hooks change the environment (OMP_PROC_BIND)",
    ),
    "switches-gradients-off": (
        hook("def prepare(self, student, context):", "    import torch", "    torch.set_grad_enabled(False)"),
        {"global-state"},
        "torch's gradient mode",
    ),
    "silences-warnings": (
        first("import warnings", "warnings.simplefilter('ignore')"),
        {"global-state"},
        "the warnings filters",
    ),
    "gives-nan": (
        first("student.head.classifier.bias.data.fill_(float('nan'))"),
        {"finite"},
        "not finite",
    ),
    "keeps-something-in-memory": (
        first("student.head.register_forward_hook(lambda module, args, output: 2 * output)"),
        {"reload"},
        "something that acts is not stored",
    ),
    "cannot-be-loaded": (
        last("student.storage.kernels['layers.0.ffn.into'] = 'int8'"),
        {"reload"},
        "the artifact does not load",
    ),
    "fails": (first("raise RuntimeError('no', 'way')"), {"runs"}, "the hooks of 'halve' fail: RuntimeError"),
    "refuses-everything": (
        top("from harness import SkylineError") | first("raise SkylineError('the encoder is too small')"),
        {"runs"},
        "every configuration was refused, 2 in all; the first was 'halve' (the encoder is too small)",
    ),
    "refuses-its-smoke-options": (
        top("from harness import SkylineError")
        | first("if self.options.dtype == 'float16':", "    raise SkylineError('not this one')"),
        set(),
        "",
    ),
    "needs-training": (
        {"trains = False": "trains = True"}
        | hook("def loss(self, step):", "    self.seen = step.rows")
        | first("self.seen.clear()"),
        {"runs"},
        "without training, the hooks of 'halve' fail: AttributeError",
    ),
    "gives-a-nan-loss": (
        {"trains = False": "trains = True"}
        | hook("def loss(self, step):", "    return step.task_loss * float('nan')"),
        {"runs"},
        "the loss is nan at step 1",
    ),
    "fails-on-its-own-result": (
        first("assert not student.storage.codecs"),
        {"composes"},
        "'halve + halve' is accepted, but fails: AssertionError",
    ),
    "has-another-id": ({'id="halve"': 'id="third"'}, {"identity"}, "its file's name asks for 'halve'"),
    "has-no-title": ({'title="Halve"': 'title=" "'}, {"card"}, "'title' is empty"),
    "has-a-title-of-two-lines": ({'title="Halve"': 'title="A\\nB"'}, {"record"}, "line breaks"),
}  # fmt: skip


def write(folder: Path, changes: dict[str, str]) -> Path:
    text = GOOD
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "halve.py"
    path.write_text(text)
    return path


def conform(folder: Path, changes: dict[str, str], checks: tuple[str, ...] = tuple(CHECKS)) -> list[Failure]:
    path = write(folder, changes)
    [method] = methods_of(load_file(path, "halve_under_test"))
    return run_conformance(method, path, checks)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call what conformance runs in a child here: test_conformance.py has the real children."""

    def call(function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    monkeypatch.setattr(behaviour, "run_isolated", call)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("fault", BAD)
def test_each_fault_fails_its_own_check(fault: str, tmp_path: Path) -> None:
    changes, expected, words = BAD[fault]
    failures = conform(tmp_path, changes)
    assert {failure.check for failure in failures} == expected, failures
    assert all("\n" not in str(failure) for failure in failures)
    if expected:
        assert any(words in failure.message for failure in failures), failures


RATIO = "Annotated[str, Field(pattern='^[0-9],[0-9]$')]"
DIVIDES = "        def __post_init__(self): 1 / (self.bits + 10**9)\n"
BAD_OPTIONS: dict[str, tuple[dict[str, str], str]] = {
    "any-text": ({'dtype: Literal["float16", "bfloat16"]': "dtype: str"}, "option 'dtype' takes any text"),
    "any-number": ({'= "float16"\n': '= "float16"\n        bits: int = 8\n'}, "option 'bits' takes any number"),
    "no-docstring": (
        {'"""`dtype`: the type that weights are stored in."""\n': ""},
        "Options has no docstring",
    ),
    "not-frozen": (
        top("from dataclasses import dataclass") | {"    @options\n": "    @dataclass\n"},
        "no frozen dataclass",
    ),
    "suite-of-another-option": (
        {'suite = {"dtype"': 'suite = {"type"'},
        "'type', which is no option; known: dtype",
    ),
    "suite-value-out-of-range": ({'("float16", "bfloat16")}': '("float16", "int4")}'}, "halve:dtype=int4"),
    "suite-without-values": ({'("float16", "bfloat16")}': "()}"}, "no tuple of values for 'dtype'"),
    "text-is-not-the-option": (
        {
            'dtype: Literal["float16", "bfloat16"] = "float16"': f"ratio: {RATIO} = '0,1'",
            'suite = {"dtype": ("float16", "bfloat16")}': "suite = {'ratio': ('1,2',)}",
            "self.options.dtype": "'float16'",
        }
        | top("from typing import Annotated", "from pydantic import Field"),
        "cannot be read back",
    ),
    "raises-its-own-error": (
        {'= "float16"\n': '= "float16"\n        bits: int = 8\n\n' + DIVIDES},
        "raises ZeroDivisionError",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD_OPTIONS)
def test_options(fault: str, tmp_path: Path) -> None:
    changes, words = BAD_OPTIONS[fault]
    [failure] = conform(tmp_path, changes, ("card", "identity", "options", "runs"))
    assert failure.check == "options"
    assert words in failure.message


BAD_CARDS = {
    'family="quantization"': ('family="quantisation"', "family 'quantisation' is none of"),
    'scope="task-specific"': (
        'scope="any-task"',
        "scope is 'any-task', none of task-specific, task-agnostic",
    ),
    'fidelity="variant"': ('fidelity="exact"', "fidelity is 'exact'"),
    'deviations="Everything."': ('deviations=""', "'deviations' does not say how"),
    'touches=("ffn",)': ('touches=("fnn",)', "unknown component 'fnn'"),
    'reduces=("disk",)': ('reduces=("energy",)', "unknown cost 'energy'"),
    "2019": ("0", "paper.year is 0"),
    '"Somebody"': ('""', "paper.authors is empty"),
    '"https://example.org"': ("object()", "no plain JSON"),
}


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


def per_tensor(self: Int8Linear, x: Tensor) -> Tensor:
    """Int8 with one scale for all tokens of the batch."""
    scale = x.abs().max() / 127
    weights = self.weight.float() * self.scale.view(-1, *[1] * self.scale.dim())
    return torch.nn.functional.linear(torch.round(x / scale) * scale, weights, self.bias)


@pytest.mark.usefixtures("in_process")
def test_an_activation_scale_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Int8Linear, "forward", per_tensor)
    found = discover().methods["dynamic-int8"]
    [failure] = run_conformance(found.method, found.path)
    assert failure.check == "independence"


@pytest.mark.usefixtures("in_process")
def test_padding_that_is_attended_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def unmasked(
        self: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, probabilities: bool = False
    ) -> tuple[Tensor, None]:
        context = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return context.transpose(1, 2).flatten(2), None

    monkeypatch.setattr(Attention, "forward", unmasked)
    found = discover().methods["dynamic-int8"]
    [failure] = run_conformance(found.method, found.path)
    assert failure.check == "independence"
    assert "depend on padding" in failure.message


def test_where_the_cost_depends_on_the_input_predictions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Int8Linear, "forward", per_tensor)
    method = discover().get("dynamic-int8")

    class Dependent(method):  # type: ignore[misc, valid-type]
        card = replace(method.card, input_dependent=True)

    with Subject(Dependent) as subject:
        run_check("independence", subject)
        given = Head.forward
        monkeypatch.setattr(Head, "forward", lambda self, x: given(self, x).roll(len(x), dims=1))
        with pytest.raises(Broken, match="prediction depends on"):
            run_check("independence", subject)


def test_an_operator_without_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    handles = flops.operator_handles()
    monkeypatch.setattr(
        flops, "operator_handles", lambda: {k: v for k, v in handles.items() if k != "aten::gelu"}
    )
    found = discover().methods["kd-logits"]
    [failure] = run_conformance(found.method, found.path, ("costs", "flops"))
    assert str(failure).startswith("flops: FLOPs leave out gelu")


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
            with pytest.raises(Blocked, match=r"^not checked: the hooks of 'halve' fail: RuntimeError$"):
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
