"""The papers' findings, as comparisons of two recipes. The suite `measured` records them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Expected = Literal["above", "below"]
MODEL = "minilm-l6"


CONTROL = "fine-tuning"
"""The control of equal budget: the baseline, trained on with its labels for as long as the other recipes."""


@dataclass(frozen=True)
class Comparison:
    """A comparison: `first` is expected above (or below) `second`, with a tolerance of `margin` points.

    `label` names the setting. If `figure` is given, the mean of this training figure in the records of `first` replaces
    `{}` in the label; the comparison is then made only if that mean lies `between` two values, and, if `matched`, only
    if the mean of `second` differs from it by at most the share `MATCHED`. If `task` is given, the comparison is made
    only on that task, for which its settings were chosen.
    """

    label: str
    first: str
    second: str
    expected: Expected = "above"
    margin: float = 0.0
    figure: str | None = None
    between: tuple[float, float] | None = None
    matched: bool = False
    task: str | None = None


@dataclass(frozen=True)
class Finding:
    """A paper's finding, and the comparisons that test it."""

    name: str
    statement: str
    source: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Share:
    """A training figure in the records of `recipes` that is expected to be below `limit`, as a share."""

    statement: str
    source: str
    recipes: tuple[str, ...]
    figure: str
    limit: float


def _against(
    first: str, second: str, sparsities: Sequence[float], below: Sequence[float] = ()
) -> Iterator[Comparison]:
    for sparsity in sparsities:
        yield Comparison(
            f"{sparsity:.0%} pruned".replace("%", " %"),
            f"{first}:sparsity={sparsity}",
            f"{second}:sparsity={sparsity}",
            "below" if sparsity in below else "above",
        )


LEFT = "share of the training rows' word-vectors"
GRADUAL = "magnitude:sparsity=0.6"
MATCHED = 0.05
PATIENT = tuple(f"patience={patience}" for patience in (1, 2, 3, 4))
ENTROPIES = ("deebert", *(f"deebert:speed={speed}" for speed in (1.25, 1.5, 2.5, 3.0)))
"""The settings of pabee and of deebert, whose usual speed is 2. Those with the same speed in FLOPs are compared."""
HALF = (0.4, 0.6)
"""The share of word-vectors that counts as half of them."""
PLACES = 6 * 64
"""The number of word-vectors in six layers, as the paper counts them: every text is padded to SST-2's 64 tokens."""
ELIMINATIONS = (
    "power-bert",
    "power-bert:retention=12/9/7/5/3/2",
    "power-bert:retention=20/14/10/6/4/2",
    "power-bert:retention=32/24/18/12/8/4",
    "power-bert:retention=48/40/32/24/16/8",
)
"""The settings of power-bert. A setting that keeps about half of the word-vectors is tested."""

FINDINGS: tuple[Finding, ...] = (
    Finding(
        "magnitude-against-random",
        "magnitude pruning beats random pruning at every sparsity from 40 %",
        "Gordon et al. 2020, Table 1",
        tuple(_against("magnitude", "random-pruning", (0.4, 0.5, 0.6, 0.85))),
    ),
    Finding(
        "movement-against-magnitude",
        "movement pruning beats magnitude pruning at 85 % and more, and loses at 40 to 60 %",
        "Sanh et al. 2020, Figure 2; Movva et al. 2022",
        tuple(_against("movement", "magnitude", (0.5, 0.6, 0.85, 0.95), below=(0.5, 0.6))),
    ),
    Finding(
        "top-against-bottom",
        "dropping top layers beats dropping bottom layers",
        "Sajjad et al. 2020, section 4",
        tuple(
            Comparison(
                f"{drop} of 6 layers", f"layer-drop:drop={drop}", f"layer-drop:drop={drop},strategy=bottom"
            )
            for drop in (1, 2, 3)
        ),
    ),
    Finding(
        "groups-against-tensor",
        "group-wise quantization beats one range for a whole matrix",
        "Shen et al. 2020, Table 3",
        (
            Comparison("4 bits, untrained", "q-bert:train=false", "q-bert:groups=1,train=false"),
            Comparison("4 bits", "q-bert", "q-bert:groups=1"),
        ),
    ),
    Finding(
        "outliers",
        "outliers kept beat a dictionary alone",
        "Zadeh et al. 2020, section 3",
        (Comparison("3 bits", "gobo", "gobo:outliers=none"),),
    ),
    Finding(
        "distillation-against-labels",
        "a student that learns from a teacher beats the same student that learns from labels alone",
        "Hinton et al. 2015; Ganesh et al. 2021, section 4.2",
        (
            Comparison("three layers", "kd-logits", "kd-logits:alpha=1"),
            Comparison("BiLSTM", "bilstm", "bilstm:alpha=1"),
            Comparison("mean of embeddings", "ffn", "ffn:alpha=1"),
        ),
    ),
    Finding(
        "attention-and-logits",
        "learning attention maps and logits beats learning logits alone",
        "Wang et al. 2020; Ganesh et al. 2021, section 4.2",
        (
            Comparison("three layers", "minilm:logits=0.5", "kd-logits"),
            Comparison("three layers, with states", "tinybert", "kd-logits"),
        ),
    ),
    Finding(
        "teacher-and-more-texts",
        "α = 0.5 with augmented texts beats labels alone without them",
        "the thesis behind pocketML/lil_bobby, Table 7.1",
        (
            Comparison("BiLSTM, byte pairs", "bilstm:alpha=0.5,augment=2", "bilstm:alpha=1"),
            Comparison("BiLSTM, the texts alone", "bilstm:alpha=1,augment=2", "bilstm:alpha=1"),
        ),
    ),
    Finding(
        "distillation-softens",
        "distillation softens the loss of eight bits and pruning in one run",
        "Movva et al. 2022, section 4",
        (
            Comparison(
                "60 % pruned",
                f"kd-logits:layers=6 + {GRADUAL} + q8bert",
                f"{GRADUAL} + q8bert",
            ),
        ),
    ),
    Finding(
        "patience-against-entropy",
        "leaving by patience is as good as leaving by entropy at equal speed, or better",
        "Zhou et al. 2020, Table 1",
        tuple(
            Comparison(
                f"{setting.replace('=', ' ')}, {{:.2f}} times as fast in FLOPs",
                f"pabee:{setting}",
                entropy,
                figure="flops_ratio",
                matched=True,
            )
            for setting in PATIENT
            for entropy in ENTROPIES
        ),
    ),
    Finding(
        "half-of-the-word-vectors",
        "half of the word-vectors can go within 1.5 points",
        "Goyal et al. 2020, Table 2",
        tuple(
            Comparison(
                label,
                recipe,
                CONTROL,
                margin=1.5,
                figure=figure,
                between=(HALF[0] * whole, HALF[1] * whole),
                task="sst2",
            )
            for label, figure, whole in (
                (f"{{:.0f}} of {PLACES} left, padding among them", "word-vectors kept", PLACES),
                ("{:.0%} of the real ones left", LEFT, 1),
            )
            for recipe in ELIMINATIONS
        ),
    ),
)
MASKS = Share(
    "the masks that magnitude chooses before and after fine-tuning differ in less than 6 to 10 %",
    "Gordon et al. 2020, section 5",
    tuple(f"magnitude:sparsity={sparsity}" for sparsity in (0.4, 0.5, 0.6, 0.85)),
    "mask_changed",
    0.10,
)
