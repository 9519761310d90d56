"""Options out of range, and methods that do not join: refused as soon as the recipe is read."""

from __future__ import annotations

import re

import pytest

from harness.recipes.recipe import Recipe
from tests.support.one_line_errors import refused


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        (
            "code-embeddings:entries=12",
            "code-embeddings:entries=12 is out of range: it must be a power of two",
        ),
        ("code-embeddings:entries=1", "entries=1 is out of range"),
        ("code-embeddings:books=0", "books=0 is out of range"),
        ("hash-embeddings:hashes=17", "hashes=17 is out of range"),
        ("vocabulary-pruning:keep=0", "keep=0 is out of range"),
        ("vocabulary-pruning:keep=100.5", "must be a share below 1 or a whole number of tokens"),
        ("reweighted-proximal:sparsity=1", "sparsity=1 is out of range"),
        ("reweighted-proximal:strength=-1", "strength=-1 is out of range"),
        ("reweighted-proximal:interval=0", "interval=0 is out of range"),
        ("reweighted-proximal:end=0", "end=0 is out of range"),
        ("reweighted-proximal:scope=block", "scope=block is out of range"),
        ("block-pruning:rows=0", "rows=0 is out of range"),
        ("block-pruning:direction=both", "direction=both is out of range"),
        ("block-pruning:penalty=inf", "penalty=inf is out of range"),
        ("block-pruning:sparsity=0.1,scope=block,rows=4", "takes 0 of the 4 rows of a block"),
        ("block-pruning:sparsity=0.9,scope=block,columns=4,direction=column", "takes 4 of the 4 columns"),
        ("q-bert:bits=5", "bits=5 is out of range"),
        ("q-bert:groups=0", "groups=0 is out of range"),
        ("q-bert:embedding_bits=1", "2 to 8 bits, or 0"),
        ("q-bert:bits=mixed,low=4,high=4", "low=4 is not below high=4"),
        ("q-bert:share=1.5", "share=1.5 is out of range"),
        ("quant-noise:noise=1", "noise=1 leaves nothing"),
        ("dynabert:width=0.3", "dynabert: width=0.3 is not trained; use one of 1, 0.75, 0.5, 0.25"),
        ("dynabert:depth=0.75,depths=0.5/1", "depth=0.75 is not trained; use one of 1, 0.5"),
        ("dynabert:widths=half", "widths=half is no list of multipliers"),
        ("lottery-ticket:sparsity=0", "sparsity=0 is out of range"),
        ("lottery-ticket:sparsity=1", "sparsity=1 is out of range"),
        ("lottery-ticket:rounds=0", "rounds=0 is out of range"),
        ("lottery-ticket:rounds=1.5", "rounds=1.5 is out of range"),
        ("lottery-ticket:round_epochs=0", "round_epochs=0 is out of range"),
        ("magnitude:regime=pre-training", "did you mean 'pretraining'"),
        ("magnitude:regime=pretraining,pretraining_epochs=0", "pretraining_epochs=0 is out of range"),
    ],
)
def test_options_out_of_range(recipe: str, line: str) -> None:
    with refused(re.escape(line)):
        Recipe.parse(recipe)


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        ("code-embeddings + hash-embeddings", "both decide the student"),
        ("dynabert + head-pruning", "'dynabert' and 'head-pruning' both decide the student"),
        ("block-pruning + reweighted-proximal", "which weights are zero"),
        ("magnitude + block-pruning", "which weights are zero"),
        ("magnitude + lottery-ticket", "'magnitude' and 'lottery-ticket' both decide which weights are zero"),
        ("magnitude + quant-noise", "both decide which weights are zero"),
        ("q-bert + ternarybert", "'q-bert' and 'ternarybert' both decide how weights are stored"),
        ("weight-squeezing + kd-logits", "both decide"),
        ("weight-squeezing + magnitude", "both decide"),
        ("weight-squeezing + q8bert", "both decide"),
        ("quant-noise > kd-logits:layers=2", "put 'quant-noise' last"),
    ],
)
def test_methods_that_do_not_join(recipe: str, line: str) -> None:
    with refused(re.escape(line)):
        Recipe.parse(recipe)
