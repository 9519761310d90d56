"""An adapter without a fault, faults to put into it, and the failures that conformance must report for each."""

from __future__ import annotations

from pathlib import Path

from harness.conformance import CHECKS, Failure, run_conformance
from harness.recipes.discovery import load_file, methods_of

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
        from harness.models.codecs import Cast, Codec

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
    """Lines at the end of `finish`."""
    return {LAST: "".join(f"        {line}\n" for line in lines)}


def top(*lines: str) -> dict[str, str]:
    """Lines before the class."""
    return {CLASS: "".join(f"{line}\n" for line in (*lines, "", "")) + CLASS}


def hook(*lines: str) -> dict[str, str]:
    """One more hook."""
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
    "claims-disk-without-saving": (NO_CODECS, {"costs", "effects"}, "claims to reduce disk"),
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
    "trains-although-it-says-not": (
        hook(
            "own_share = 0.5",
            "",
            "def prepare(self, student, context):",
            "    from harness.compression.training import train_round",
            "    train_round(student, [], context, 'secret', share=0.5)",
        ),
        {"runs"},
        "declares trains = False, but trains",
    ),
    "trains-more-than-it-declares": (
        {"trains = False": "own_share = 0.25"}
        | hook(
            "def prepare(self, student, context):",
            "    from harness.compression.training import train_round",
            "    train_round(student, [], context, 'long', share=0.5)",
        ),
        {"runs"},
        "with 'long' the method's own rounds take 0.5 of the stage's epochs, but own_share is 0.25",
    ),
    "misspells-a-hook": (
        hook("def finnish(self, student, context):", "    pass"),
        {"interface"},
        "'finnish' is not part of the interface of methods (did you mean 'finish'?)",
    ),
    "misspells-an-attribute": (
        {"trains = False": "train = False"},
        {"interface"},
        "'train' is not part of the interface of methods (did you mean 'trains'?)",
    ),
    "has-a-public-helper": (
        hook("def xyz(self):", "    pass"),
        {"interface"},
        "'xyz' is not part of the interface of methods; begin",
    ),
    "ignores-an-option": (
        {'= "float16"\n': '= "float16"\n        deep: bool = False\n'},
        {"effects"},
        "option 'deep' changes neither the artifact nor a figure",
    ),
    "calibrates-for-shapes-alone": (
        {'= "float16"\n': '= "float16"\n        deep: bool = False\n'}
        | first("if context.shapes_only: context.figures['deep'] = self.options.deep"),
        {"effects"},
        "option 'deep' changes neither",
    ),
    "declares-why-an-option-is-inert": (
        {'= "float16"\n': '= "float16"\n        deep: bool = False\n'}
        | hook("inert_when_tiny = {'deep': 'It needs more layers.'}"),
        set(),
        "",
    ),
    "declares-an-option-inert-that-acts": (
        hook("inert_when_tiny = {'dtype': 'It needs more layers.'}"),
        {"effects"},
        "inert_when_tiny names 'dtype', but it acts here",
    ),
    "gives-no-reason": (
        hook("inert_when_tiny = {'dtype': ' '}"),
        {"effects"},
        "inert_when_tiny gives no reason why 'dtype'",
    ),
    "has-another-id": ({'id="halve"': 'id="third"'}, {"identity"}, "its file's name asks for 'halve'"),
    "has-no-title": ({'title="Halve"': 'title=" "'}, {"card"}, "'title' is empty"),
    "has-a-title-of-two-lines": ({'title="Halve"': 'title="A\\nB"'}, {"record"}, "line breaks"),
}  # fmt: skip

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
        "not a frozen dataclass",
    ),
    "suite-of-another-option": (
        {'suite = {"dtype"': 'suite = {"type"'},
        "'type', which is not an option; known: dtype",
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
    '"https://example.org"': ("object()", "not plain JSON"),
}


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
