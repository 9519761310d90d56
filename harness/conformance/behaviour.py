"""Checks of an adapter's hooks: their effects on the process, on the teacher, and on the artifact that they make."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from harness.common.errors import SkylineError
from harness.common.processes import IsolationError, run_isolated
from harness.conformance import fresh
from harness.conformance.subject import Blocked, Broken, Subject
from harness.models.artifacts import load_artifact, read_tensors, to_dense
from harness.models.batch import Batch
from harness.models.codecs import Codec
from harness.models.model import Model
from harness.recipes.discovery import in_words

TOLERANCE = 1e-4
"""The most by which a row's logits may change with padding or with other rows, because sums are rounded differently."""
SAME = 1e-6
"""The most by which the logits of one artifact may differ between two processes."""


def check_global_state(subject: Subject) -> None:
    """Check that importing the file and running its hooks change no global setting and draw from no global generator.

    torch's generator may advance, because constructing a module draws from it. The check `reproducible` shows that the
    artifact does not depend on it.
    """
    subject.run_hooks()  # meanwhile the process server finishes its imports
    if subject.path is not None:
        try:
            changed = run_isolated(fresh.import_effects, subject.path)
        except (IsolationError, SkylineError) as error:
            raise Blocked(f"not checked: {error}") from None
        if changed:
            raise Broken(f"importing the file changes {', '.join(changed)}")
    runs = subject.runs
    if runs.settings:
        raise Broken(f"the hooks change {', '.join(runs.settings)}")
    if runs.generators:
        raise Broken(
            f"the hooks draw from or seed {', '.join(runs.generators)}; use context.generator(purpose)"
        )


def check_runs(subject: Subject) -> None:
    """Check that the hooks run with the smoke options, and with every other value of the suite or refuse it by a
    SkylineError.

    If the tiny encoder is too small for the smoke options, the next configuration is run instead. If all are refused,
    the check fails.
    """
    if subject.why_not is not None:
        raise Broken(subject.why_not)
    for stage in subject.configurations():
        try:
            subject.run(stage, subject.again(subject.baseline), training=False)
        except SkylineError:
            continue
        except Exception as error:
            raise Broken(f"without training, the hooks of '{stage}' fail: {in_words(error)}") from None


def check_reproducible(subject: Subject) -> None:
    """Check that two runs with one seed give the same artifact, from different states of the global generators."""
    one, other = subject.runs.made
    if one.hash == other.hash:
        return
    first, second = (read_tensors(made.folder) for made in (one, other))
    odd = [n for n in sorted({*first, *second}) if not _equal(first.get(n), second.get(n))]
    what = f"tensor '{odd[0]}' differs" if odd else "config.json differs"
    raise Broken(
        f"two runs with one seed give different artifacts: {what}; draw from context.generator(purpose)"
    )


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and one.dtype == other.dtype and torch.equal(one, other)


def check_teacher(subject: Subject) -> None:
    """Check that the hooks change neither the teacher nor the previous stage's encoder: not a bit of the weights, no
    flag, no module, no storage.
    """
    runs = subject.runs
    if runs.teacher:
        raise Broken(f"the hooks change the teacher: {', '.join(runs.teacher)}")
    if runs.previous:
        raise Broken(f"the student is no copy, what it is made from changes: {', '.join(runs.previous)}")


def check_finite(subject: Subject) -> None:
    """Check that the artifact's logits are finite."""
    if not torch.isfinite(logits_of(subject.loaded, subject.sentences)).all():
        raise Broken("the artifact's logits are not finite")


def check_independence(subject: Subject) -> None:
    """Check that a row's logits depend neither on padding nor on the other rows of its batch. If the method's cost
    depends on the input, only predictions are compared.
    """
    model = subject.loaded
    sentences = subject.sentences
    lengths = sentences.attention_mask.sum(1).tolist()
    padded = logits_of(model, sentences)
    short = [logits_of(model, cut(sentences, row, length)) for row, length in enumerate(lengths)]
    _must_agree(subject, torch.cat(short), padded, "padding")
    full = Batch.synthetic(6, 16, model.config.vocab_size, seed=3)
    alone = [logits_of(model, full.rows(row, row + 1)) for row in range(len(full))]
    _must_agree(subject, torch.cat(alone), logits_of(model, full), "the other rows of its batch")


def cut(batch: Batch, row: int, length: int) -> Batch:
    """Return the first `length` tokens of one row, as a batch (1, length)."""
    tensors = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    return Batch(*(tensor[row : row + 1, :length] for tensor in tensors))


def _must_agree(subject: Subject, alone: Tensor, together: Tensor, what: str) -> None:
    if not (torch.isfinite(alone).all() and torch.isfinite(together).all()):
        raise Blocked("not checked: the logits are not finite")
    if subject.method.card.input_dependent:
        if not torch.equal(alone.argmax(1), together.argmax(1)):
            raise Broken(f"a row's prediction depends on {what}")
        return
    error = float((alone - together).abs().max())
    if error > TOLERANCE:
        raise Broken(f"a row's logits depend on {what}: they differ by {error:.1e} (allowed {TOLERANCE:.0e})")


def check_reload(subject: Subject) -> None:
    """Check that the artifact gives the same logits in a fresh process, and the logits of the student in memory.

    For the latter, the student's weights are encoded and decoded first, and kernels are off, because they round
    activations.
    """
    if subject.does_not_load is not None:
        raise Broken(f"the artifact does not load: {subject.does_not_load}")
    sentences = subject.sentences
    rows = (
        sentences.input_ids.numpy(),
        sentences.attention_mask.numpy(),
        sentences.token_type_ids.numpy(),
    )
    here = logits_of(subject.loaded, sentences)
    try:
        there = torch.from_numpy(
            run_isolated(fresh.artifact_logits, subject.made.folder, rows, torch.get_num_threads())
        )
    except (IsolationError, SkylineError) as error:
        raise Broken(f"the artifact does not load in a fresh process: {error}") from None
    if not torch.allclose(here, there, atol=SAME, rtol=0, equal_nan=True):
        raise Broken("the artifact gives other logits in a fresh process")
    student = _as_stored(subject.made.student)
    stored = logits_of(to_dense(subject.loaded).eval(), sentences)
    if not torch.allclose(logits_of(student, sentences), stored, atol=TOLERANCE, rtol=0, equal_nan=True):
        raise Broken(
            "the artifact does not compute what the student in memory does: something that acts is not stored "
            "(a hook, a buffer, a wrapped forward)"
        )


def _as_stored(student: Model) -> Model:
    copied = deepcopy(student).eval()
    with torch.no_grad():
        for name, tensor in copied.contents().items():
            codec = copied.storage.codecs.get(name, Codec())
            tensor.copy_(codec.decode(codec.encode(tensor), tensor.shape))
    return copied


def check_composes(subject: Subject) -> None:
    """Check that the method, combined with itself by `+` and by `>`, works or is refused by a SkylineError."""
    stage = subject.runs.stage
    _ = subject.loaded
    for joint in ("+", ">"):
        text = f"{stage} {joint} {stage}"
        try:
            recipe = subject.parse(text)
            before = subject.made if joint == ">" else subject.baseline
            load_artifact(subject.run(recipe.stages[-1], subject.again(before)).folder)
        except SkylineError:
            continue
        except Exception as error:
            raise Broken(f"'{text}' is accepted, but fails: {in_words(error)}") from None


def logits_of(model: Model, batch: Batch) -> Tensor:
    """Return the model's logits (b, outputs) in float32."""
    with torch.inference_mode():
        logits: Tensor = model(batch).logits.float()
    return logits.clone()
