"""Counted costs of real rows: the mean over all passes of a split, whatever the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.models.config import EncoderConfig, ExitRule
from harness.models.flops.lengths import at_lengths
from harness.models.model import Model
from harness.profiling.costs.counted import count, counted_on_rows
from harness.profiling.inputs import REAL_ROWS, Inputs, make_workload, representative_rows
from harness.profiling.profile import static_costs
from tests.support.runtime_models import CONFIGS, LAYER, POSITIONS, batch_of, drawn, encoder, keeping, saved

LENGTHS = [3, 9, 9, 4, 17, 32, 5, 25, 9, 12, 13, 14, 21, 30, 28, 7, 6, 11, 8, 19]
H, P, F = LAYER.heads * LAYER.head_size, LAYER.heads * LAYER.head_size, LAYER.ffn_size
CLASSES = 2


def inputs(lengths: list[int], batch: int = 1) -> Inputs:
    return Inputs.of(make_workload(POSITIONS, batch, "real"), batch_of(lengths))


def full_layer(n: int) -> int:
    return n * (4 * H * P + 2 * H * F) + 2 * n * n * P


def head() -> int:
    return H * H + H * CLASSES


def one_by_one(model: Model, given_: Inputs) -> tuple[float, ...]:
    """Run every pass of the split, and return the means of MACs, other operations and activation bytes."""
    assert given_.split is not None
    found = []
    for rows in given_.passes():
        alone = Inputs(given_.workload, given_.split[:, rows])
        work, activations = counted_on_rows(model, alone.batches(10**6))
        found.append((work.total.macs, work.total.elementwise_flops, sum(activations.values())))
    return tuple(np.mean(found, axis=0))


@pytest.mark.parametrize("batch", [1, 3])
def test_full_attention_costs_the_closed_form_at_each_length(batch: int) -> None:
    given_ = inputs(LENGTHS, batch)
    found, _ = count(drawn(CONFIGS["plain"]), given_)
    padded = sorted(LENGTHS, reverse=True)
    longest = [padded[start] for start in range(0, len(padded) - batch + 1, batch)]
    assert len(longest) == len(LENGTHS) // batch
    expected = [batch * (2 * full_layer(n) + head()) for n in longest]
    assert found.total.macs == pytest.approx(np.mean(expected), abs=0.51)
    assert found.mean_depth is None
    assert found.uncounted == ()


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kind", CONFIGS)
def test_every_kind_of_model_costs_what_its_passes_do(kind: str, batch: int) -> None:
    model, given_ = drawn(CONFIGS[kind]), inputs(LENGTHS, batch)
    work, activations = count(model, given_)
    figures = (work.total.macs, work.total.elementwise_flops, sum(activations.values()))
    assert figures == pytest.approx(one_by_one(model, given_), abs=len(activations))
    assert sum(part.macs for part in work.components.values()) == pytest.approx(
        work.total.macs, abs=len(work.components)
    )


@pytest.mark.parametrize("kept", [(20, 6), (POSITIONS, 12)])
def test_eliminated_word_vectors_cost_nothing_in_shorter_rows(kept: tuple[int, int]) -> None:
    """A layer's attention reads all that came in; its FFN and the next layers only what is kept, if that is fewer."""

    def row(n: int) -> int:
        total, present = 0, n
        for layer in (*kept, POSITIONS):
            left = min(present, layer)
            total += present * 4 * H * P + 2 * present * present * P + left * 2 * H * F
            present = left
        return total + head()

    found, _ = count(drawn(keeping(*kept)), inputs(LENGTHS))
    assert found.total.macs == pytest.approx(np.mean([row(n) for n in LENGTHS]), abs=0.51)


@pytest.mark.parametrize("batch", [1, 4])
def test_early_exits_cost_each_rows_own_depth(batch: int) -> None:
    layers = (LAYER.model_copy(update={"exit": "pooler"}),) * 2
    config: EncoderConfig = encoder(*layers, LAYER)
    given_ = inputs(LENGTHS, batch)
    assert given_.split is not None
    model = drawn(config)
    with torch.inference_mode():
        entropies = torch.cat(
            [
                torch.special.entr(model(b).exits[0].softmax(-1)).sum(-1)
                for b in Inputs(given_.workload, given_.split).batches(10**6)
            ]
        )
    model.config = config.with_exit_rule(ExitRule(kind="entropy", threshold=float(entropies.median())))
    depths, expected = [], []
    for rows in given_.passes():
        (one,) = Inputs(given_.workload, given_.split[:, rows]).batches(10**6)
        with torch.inference_mode():
            own = model(one).depths
        assert own is not None
        n = one.input_ids.shape[1]
        expected.append(
            sum(
                depth * full_layer(n) + min(depth, 2) * head() + (depth == 3) * head()
                for depth in own.tolist()
            )
        )
        depths += own.tolist()
    assert len(set(depths)) > 1
    found, activations = count(model, given_)
    assert found.total.macs == pytest.approx(np.mean(expected), abs=0.51)
    assert found.mean_depth == pytest.approx(np.mean(depths))
    assert all(activations.values())


def test_the_counts_of_a_profile_are_of_the_whole_split(tmp_path: Path) -> None:
    lengths = [32] * 30 + [4] * 70
    folder = saved(drawn(CONFIGS["plain"]), tmp_path / "a")
    given_ = inputs(lengths)
    found = static_costs(folder, given_)
    assert given_.rows is not None
    assert given_.rows.shape[1] == REAL_ROWS
    mean = 0.3 * full_layer(32) + 0.7 * full_layer(4)
    assert found.work.total.macs == pytest.approx(2 * mean + head(), abs=0.51)
    # Without the split only the rows that are timed are known.
    assert given_.timed.split is None
    assert static_costs(folder, Inputs.of(make_workload(8, 1))).work.total.macs == 2 * full_layer(8) + head()


@given(st.lists(st.integers(3, 60), min_size=REAL_ROWS, max_size=400), st.sampled_from([1, 2, 8, 32]))
def test_chosen_rows_represent_the_splits_lengths(lengths: list[int], batch: int) -> None:
    every = np.array(lengths)
    chosen = representative_rows(every, batch)
    assert len(set(chosen.tolist())) == len(chosen)
    assert len(chosen) % batch == 0
    assert len(chosen) >= min(len(lengths) // batch * batch, REAL_ROWS - batch + 1)
    assert sorted(every[chosen], reverse=True) == every[chosen].tolist()


@given(st.integers(0, 10_000))
def test_the_mean_length_of_chosen_rows_is_the_splits(seed: int) -> None:
    """Lengths of sentences are skewed: a few are long."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(3.0, 0.5, rng.integers(250, 1500)).round().astype(np.int64) + 2, 3, 128)
    chosen = representative_rows(lengths, 1)
    assert lengths[chosen].mean() == pytest.approx(lengths.mean(), rel=0.05)


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=80),
    st.lists(st.integers(1, 200), max_size=3),
    st.tuples(*[st.integers(0, 10**7)] * 3),
)
def test_costs_between_lengths_are_exact(
    lengths: list[int], kinks: list[int], powers: tuple[int, int, int]
) -> None:
    a, b, c = powers

    def cost(n: int) -> np.ndarray:
        curves = [a * min(n, kink) ** 2 + b * min(n, kink) for kink in [*kinks, 10**6]]
        return np.array([sum(curves) + c, n], dtype=np.int64)

    for known in (kinks, []):
        found = at_lengths(cost, lengths, known)
        assert list(found) == sorted(set(lengths))
        if known == kinks:
            assert all(np.array_equal(found[n], cost(n)) for n in found)


def test_a_parabola_takes_six_lengths_and_other_curves_more() -> None:
    asked: list[int] = []

    def parabola(n: int) -> np.ndarray:
        asked.append(n)
        return np.array([3 * n * n + n])

    def steps(n: int) -> np.ndarray:
        asked.append(n)
        return np.array([17 * (n // 4) + n])

    at_lengths(parabola, range(3, 129))
    assert len(asked) == 6
    asked.clear()
    found = at_lengths(steps, range(3, 129))
    assert all(found[n] == 17 * (n // 4) + n for n in found)
    assert len(asked) > 100
