"""Early exit, against a run of all layers whose logits are chosen afterwards by the rule in plain Python."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from harness.common.errors import Code
from harness.compression.exit_rules import leaving_depths
from harness.models.artifacts import load_artifact, read_config, save_artifact, to_dense
from harness.models.batch import Batch, Output
from harness.models.codecs import Codec, Int8
from harness.models.config import EncoderConfig, ExitRule, student_size
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.exits import Judge, entropy
from harness.models.int8_linear import Int8Linear
from harness.models.parameter_counts import encoder_parameters
from harness.models.surgery import (
    add_exits,
    factorize,
    keep_columns,
    keep_heads,
    keep_hidden,
    keep_layers,
    share_layers,
)
from tests.support.encoder_models import random_batch, random_weights
from tests.support.one_line_errors import refused

PLAIN = EncoderConfig.bert(4, 24, heads=4, ffn=20, vocab_size=50, positions=16)
RAMPS: tuple[Any, ...] = ("pooler", "linear", "student")
PATIENCE = ExitRule(kind="patience", threshold=1, tolerance=0.3)


def encoder(ramp: Any = "pooler", rule: ExitRule | None = None, outputs: int = 3, seed: int = 0) -> Encoder:
    kind = "regression" if outputs == 1 else "classification"
    config = PLAIN.with_head(kind, outputs).with_exits(ramp, rule)
    return random_weights(config, seed).eval()


def run(model: Encoder, batch: Batch) -> Output:
    with torch.inference_mode():
        output: Output = model(batch)
    return output


def every_answer(model: Encoder, batch: Batch) -> list[list[list[float]]]:
    """Return each row's logits at each ramp and at the head, without an exit rule."""
    rule, model.config = model.config.exit_rule, model.config.with_exit_rule(None)
    output = run(model, batch)
    model.config = model.config.with_exit_rule(rule)
    answers = [*(output.exits[index] for index in sorted(output.exits)), output.logits]
    assert output.depths is None
    return [[answer[row].tolist() for answer in answers] for row in range(len(batch))]


def oracle_depth(answers: list[list[float]], rule: ExitRule) -> int:
    """Return the number of layers after which a row exits, with ramps on all layers except the last."""
    streak, last = 0, None
    for place, logits in enumerate(answers[:-1]):
        if rule.kind == "patience":
            guess: Any = logits[0] if len(logits) == 1 else max(range(len(logits)), key=logits.__getitem__)
            if last is not None:
                same = abs(guess - last) < rule.tolerance if len(logits) == 1 else guess == last
                streak = streak + 1 if same else 0
            last = guess
            leaves = streak >= rule.threshold
        else:
            found = float(scipy_entropy(softmax(logits)))
            if rule.kind == "normalized-entropy":
                found /= math.log(len(logits))
            leaves = found < rule.threshold
        if leaves:
            return place + 1
    return len(answers)


def rules() -> st.SearchStrategy[ExitRule]:
    entropies = st.builds(
        ExitRule,
        kind=st.sampled_from(("entropy", "normalized-entropy")),
        threshold=st.floats(0, 1.2, allow_nan=False),
    )
    return entropies | st.builds(ExitRule, kind=st.just("patience"), threshold=st.integers(1, 4))


@given(
    rules(), st.sampled_from(RAMPS), st.lists(st.integers(2, 12), min_size=1, max_size=7), st.integers(0, 5)
)
@settings(max_examples=40, deadline=None)
def test_rows_leave_where_the_rule_says_with_what_is_answered_there(
    rule: ExitRule, ramp: Any, lengths: list[int], seed: int
) -> None:
    model = encoder(ramp, rule, seed=seed % 2)
    batch = random_batch(lengths, 50, seed)
    output, answers = run(model, batch), every_answer(model, batch)
    assert output.depths is not None
    for row, (depth, logits) in enumerate(zip(output.depths.tolist(), output.logits, strict=True)):
        assert depth == oracle_depth(answers[row], rule)
        assert torch.allclose(logits, torch.tensor(answers[row][depth - 1]), atol=1e-5)
    exits = {index: torch.tensor([row[index] for row in answers]) for index in range(3)}
    assert leaving_depths(exits, rule, 4).tolist() == output.depths.tolist()


@given(st.floats(0.05, 3), st.integers(1, 3), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_scores_leave_by_patience(tolerance: float, patience: int, seed: int) -> None:
    rule = ExitRule(kind="patience", threshold=patience, tolerance=tolerance)
    model = encoder("linear", rule, outputs=1)
    batch = random_batch([4, 9, 7, 12], 50, seed)
    output, answers = run(model, batch), every_answer(model, batch)
    assert output.depths is not None
    assert output.depths.tolist() == [oracle_depth(row, rule) for row in answers]


@pytest.mark.parametrize("ramp", RAMPS)
@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_neither_padding_nor_the_other_rows_matter(ramp: Any, threshold: float) -> None:
    model = encoder(ramp, ExitRule(kind="entropy", threshold=threshold))
    lengths = [3, 12, 7, 5, 9, 12]
    batch = random_batch(lengths, 50, seed=1)
    together = run(model, batch)
    assert together.depths is not None
    for row, length in enumerate(lengths):
        cut = batch.rows(row, row + 1)
        alone = run(
            model, Batch(*(t[:, :length] for t in (cut.input_ids, cut.attention_mask, cut.token_type_ids)))
        )
        assert alone.depths is not None
        assert int(alone.depths[0]) == int(together.depths[row])
        assert torch.allclose(alone.logits[0], together.logits[row], atol=1e-5)


def test_rows_that_are_done_reach_no_further_layer() -> None:
    model = encoder("pooler", ExitRule(kind="entropy", threshold=0.9))
    seen: list[int] = []
    for layer in model.layers:
        layer.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    depths = run(model, random_batch([8] * 9, 50)).depths
    assert depths is not None
    left = [int((depths > layer).sum()) for layer in range(4)]
    assert len(set(left)) > 1
    assert seen == [count for count in left if count]


def test_training_and_hidden_states_take_every_layer() -> None:
    model, batch = encoder(rule=ExitRule(kind="entropy", threshold=2.0)), random_batch([5, 9], 50)
    assert run(model, batch).depths is not None
    with torch.inference_mode():
        states = model(batch, hidden_states=True)
        trained = model.train()(batch)
    for output in (states, trained):
        assert output.depths is None
        assert sorted(output.exits) == [0, 1, 2]
    assert len(states.hidden_states or ()) == 5


def test_entropy_is_scipys_in_nats() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [90.0, -90.0, 0.0]])
    expected = [float(scipy_entropy(softmax(row))) for row in logits.double().numpy()]
    assert entropy(logits).tolist() == pytest.approx(expected, abs=1e-6)


def test_patience_counts_repetitions_and_begins_anew() -> None:
    judge = Judge(ExitRule(kind="patience", threshold=2))
    answers = [[0, 0, 1], [0, 1, 1], [0, 1, 0], [1, 1, 0]]  # each column holds a row's answers
    found = [judge.done(torch.nn.functional.one_hot(torch.tensor(a), 2).float()).tolist() for a in answers]
    assert found == [[False] * 3, [False] * 3, [True, False, False], [False, True, False]]


@pytest.mark.parametrize("ramp", RAMPS)
def test_artifacts_hold_ramps_and_rule(ramp: Any, tmp_path: Path) -> None:
    rule = ExitRule(kind="entropy", threshold=0.8)
    model, batch = encoder(ramp, rule), random_batch([3, 12, 7], 50)
    save_artifact(model, tmp_path / "artifact")
    loaded = load_artifact(tmp_path / "artifact")
    assert loaded.config == model.config
    before, after = run(model, batch), run(loaded, batch)  # type: ignore[arg-type]
    assert torch.equal(before.logits, after.logits)
    assert before.depths is not None
    assert after.depths is not None
    assert torch.equal(before.depths, after.depths)
    assert encoder_parameters(model.config) == sum(p.numel() for p in model.parameters())


def test_configurations_without_ramps_have_no_new_keys(tmp_path: Path) -> None:
    save_artifact(random_weights(PLAIN, 0), tmp_path / "artifact")
    text = (tmp_path / "artifact" / "config.json").read_text(encoding="utf-8")
    assert "exit" not in text
    assert read_config(tmp_path / "artifact").model == PLAIN


@pytest.mark.parametrize("ramp", RAMPS)
def test_ramps_execute_in_int8(ramp: Any, tmp_path: Path) -> None:
    model = encoder(ramp, PATIENCE)
    paths = [path for path, m in model.exits.named_modules() if isinstance(m, torch.nn.Linear)]
    for path in paths:
        model.storage.codecs[f"exits.{path}.weight"] = Codec((Int8("channel"),))
        model.storage.kernels[f"exits.{path}"] = "int8"
    save_artifact(model, tmp_path / "artifact")
    loaded = load_artifact(tmp_path / "artifact")
    assert isinstance(loaded, Encoder)
    assert all(isinstance(loaded.exits.get_submodule(path), Int8Linear) for path in paths)
    batch = random_batch([3, 12, 7, 9], 50)
    dense = to_dense(loaded).eval()
    assert isinstance(dense, Encoder)
    for ours, theirs in zip(every_answer(loaded, batch), every_answer(dense, batch), strict=True):
        assert torch.allclose(torch.tensor(ours), torch.tensor(theirs), atol=0.1)
    assert run(loaded, batch).depths is not None


def test_new_ramps_start_as_the_head_or_are_drawn() -> None:
    plain = random_weights(PLAIN, 0).eval()
    model = add_exits(plain, "pooler", torch.Generator().manual_seed(0)).eval()
    batch = random_batch([5, 9], 50)
    with torch.inference_mode():
        output = model(batch, hidden_states=True)
        for index, logits in output.exits.items():
            assert torch.equal(
                logits, plain.head(output.hidden_states[index + 1], batch.attention_mask.bool())
            )
        assert torch.equal(output.logits, plain(batch).logits)
    one, same, other = (
        add_exits(plain, "student", torch.Generator().manual_seed(seed)).exits.state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["0.into.weight"], other["0.into.weight"])
    assert one["0.into.weight"].std().item() == pytest.approx(0.02, rel=0.3)


def test_the_students_width_is_the_published_one_at_base_size() -> None:
    config = EncoderConfig.bert(12, 768).with_exits("student", None)
    assert student_size(768) == 128
    with_ramps, without = encoder_parameters(config), encoder_parameters(EncoderConfig.bert(12, 768))
    assert (with_ramps - without) // 11 == 181_250  # FastBERT's student of two classes


def test_deeberts_ramps_add_the_published_share() -> None:
    plain = EncoderConfig.bert(12, 768)
    added = encoder_parameters(plain.with_exits("pooler", None)) - encoder_parameters(plain)
    assert added / encoder_parameters(plain) == pytest.approx(0.059, abs=5e-4)


def test_layers_that_share_weights_have_ramps_of_their_own() -> None:
    model = share_layers(encoder(rule=PATIENCE), (None, 0, 0, 0))
    assert [layer.exit for layer in model.config.layers] == ["pooler", "pooler", "pooler", None]
    assert model.layers[3] is model.layers[0]
    weights = [model.exits[str(index)].pooler.weight for index in range(3)]
    assert not torch.equal(weights[0], weights[1])
    batch = random_batch([5, 9, 7], 50)
    output, answers = run(model, batch), every_answer(model, batch)
    assert output.depths is not None
    assert output.depths.tolist() == [oracle_depth(row, PATIENCE) for row in answers]
    thin = factorize(model, {"query": 3})
    assert [layer.exit for layer in thin.config.layers] == ["pooler", "pooler", "pooler", None]


def test_cut_layers_take_their_ramps_and_the_last_loses_its() -> None:
    model = encoder(rule=PATIENCE)
    cut = keep_layers(model, (0, 2, 3))
    assert [layer.exit for layer in cut.config.layers] == ["pooler", "pooler", None]
    assert torch.equal(cut.exits["1"].pooler.weight, model.exits["2"].pooler.weight)
    ended = keep_layers(model, (1, 2))
    assert [layer.exit for layer in ended.config.layers] == ["pooler", None]
    assert ended.config.exit_rule == PATIENCE
    alone = keep_layers(model, (1,))
    assert alone.config.exit_rule is None
    assert not list(alone.exits)


@pytest.mark.parametrize("ramp", RAMPS)
def test_heads_and_columns_are_cut_under_ramps(ramp: Any) -> None:
    model, batch = encoder(ramp, PATIENCE), random_batch([5, 9, 7], 50)
    whole = keep_columns(keep_heads(model, [range(4)] * 4), [range(20)] * 4)
    assert whole.config == model.config
    assert torch.equal(run(whole, batch).logits, run(model, batch).logits)
    assert keep_heads(model, [[0, 2]] * 4).config.exit_rule == PATIENCE


@pytest.mark.parametrize("ramp", ["pooler", "linear"])
def test_hidden_units_are_cut_in_ramps_too(ramp: Any) -> None:
    model = encoder(ramp, PATIENCE)
    cut = keep_hidden(model, range(3, 24))
    part = "pooler" if ramp == "pooler" else "classifier"
    ours, theirs = (getattr(m.exits["1"], part).weight for m in (cut, model))
    assert torch.equal(ours, theirs[3:, 3:] if ramp == "pooler" else theirs[:, 3:])
    assert run(cut, random_batch([5, 9], 50)).logits.shape == (2, 3)


def test_hidden_units_under_students_are_refused() -> None:
    with refused(Code.WRONG_SHAPE, "hidden units"):
        keep_hidden(encoder("student", PATIENCE), range(20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exit_rule": {"kind": "entropy", "threshold": 0.1}}, "exit rule .* exit ramp"),
        ({"head": {"kind": "span", "outputs": 2}, "layers": "ramps"}, "head with a pooler"),
        ({"pooler": False, "layers": "ramps"}, "head with a pooler"),
        (
            {
                "head": {"kind": "regression", "outputs": 1},
                "layers": "ramps",
                "exit_rule": {"kind": "entropy", "threshold": 0.1},
            },
            "entropy",
        ),
        ({"layers": "all"}, "last layer"),
    ],
)
def test_what_cannot_be(change: dict[str, Any], message: str) -> None:
    layers = {
        "ramps": PLAIN.with_exits("pooler", None).layers,
        "all": tuple(layer.model_copy(update={"exit": "pooler"}) for layer in PLAIN.layers),
    }
    change = {**change, **({"layers": layers[change["layers"]]} if "layers" in change else {})}
    with pytest.raises(ValueError, match=message):
        EncoderConfig.model_validate({**PLAIN.model_dump(), **change})
