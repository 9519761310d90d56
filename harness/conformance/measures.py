"""Checks of an artifact's measurements: the costs that the card claims to reduce, FLOPs, and records."""

from __future__ import annotations

import json
from itertools import chain

from harness.common.errors import SkylineError
from harness.conformance.behaviour import cut
from harness.conformance.recording import records_of
from harness.conformance.subject import Blocked, Broken, Made, Subject
from harness.models.artifacts import load_artifact
from harness.models.flops.counting import count_flops
from harness.models.model import Model
from harness.profiling.costs.size import artifact_facts
from harness.profiling.profile import StaticCosts
from harness.recipes.discovery import in_words
from harness.recipes.recipe import Recipe
from harness.records.checks import check_records
from harness.records.costs import Cost
from harness.records.schema import parse_record
from leaderboard.boards.measured import measured_board
from leaderboard.tables.printing import to_csv, to_json, to_markdown


def check_costs(subject: Subject) -> None:
    """Check that each cost which the card claims to reduce is smaller in the artifact than in the baseline's.

    Latency and memory of the tiny encoder cannot be measured well, so others stand for them. Latency: fewer
    multiply-adds, or fewer bytes of loaded weights outside the embedding. Memory: fewer bytes of loaded weights, or of
    activations.
    """
    own, base = subject.costs
    loaded, reference = subject.loaded, load_artifact(subject.baseline.folder)
    figures: dict[Cost, dict[str, tuple[int, int]]] = {
        "disk": {"bytes on disk": (_disk_bytes(subject.made), _disk_bytes(subject.baseline))},
        "parameters": {"stored parameters": (own.stored_params, base.stored_params)},
        "flops": {"multiply-adds": _macs(subject, own, base)},
        "latency": {
            "multiply-adds": _macs(subject, own, base),
            "bytes of executed weights": (_loaded_bytes(loaded, False), _loaded_bytes(reference, False)),
        },
        "memory": {
            "bytes of loaded weights": (_loaded_bytes(loaded, True), _loaded_bytes(reference, True)),
            "bytes of activations": (sum(own.activation_bytes.values()), sum(base.activation_bytes.values())),
        },
    }
    for cost in subject.method.card.reduces:
        known = figures.get(cost, {})
        if known and not any(figure < baseline for figure, baseline in known.values()):
            said = " and ".join(f"{figure:,} {what} (baseline {b:,})" for what, (figure, b) in known.items())
            raise Broken(f"the card claims to reduce {cost}, but the artifact has {said}")


def _disk_bytes(made: Made) -> int:
    return artifact_facts(made.folder).disk_bytes


def _loaded_bytes(model: Model, embedding: bool) -> int:
    tensors = chain(model.named_parameters(), model.named_buffers())
    return sum(tensor.nbytes for name, tensor in tensors if embedding or not name.startswith("embedding."))


def _macs(subject: Subject, own: StaticCosts, base: StaticCosts) -> tuple[int, int]:
    """Return the multiply-adds of the artifact and the baseline on the workload; if the cost depends on the input, on
    real rows one by one.
    """
    if not subject.method.card.input_dependent:
        return own.work.total.macs, base.work.total.macs
    sentences = subject.sentences
    rows = [cut(sentences, n, int(k)) for n, k in enumerate(sentences.attention_mask.sum(1).tolist())]
    models = (subject.loaded, load_artifact(subject.baseline.folder))
    one, other = (sum(count_flops(model, row).total.macs for row in rows) for model in models)
    return one, other


def check_flops(subject: Subject) -> None:
    """Check that FLOPs are counted for every operator that the artifact executes and that computes something."""
    uncounted = subject.costs[0].work.uncounted
    if uncounted:
        raise Broken(
            f"FLOPs leave out {', '.join(uncounted)}; give it a handle in harness/models/flops/operators.py"
        )


def check_record(subject: Subject) -> None:
    """Check that the artifact's records pass schema and data tests, read back from JSON, and show on a board."""
    try:
        records = records_of(subject)
    except Blocked:
        raise
    except (SkylineError, ValueError) as error:
        raise Broken(f"it has no valid record: {in_words(error)}") from None
    for record in records:
        if parse_record(record.to_json(), "its record") != record:
            raise Broken(f"its {record.kind} record does not come back from JSON as it was")
    if problems := check_records(records):
        raise Broken(f"its record fails the board's data tests: {problems[0]}")
    recipe = str(Recipe((subject.runs.stage,)))
    board = measured_board(records, cards={subject.id: subject.method.card.to_dict()})
    row = next((row for row in board.rows if row.recipe == recipe), None)
    if row is None or row.drop is None or row.costs.size is None:
        raise Broken(f"the board has no complete row for '{recipe}'")
    if recipe not in [row["recipe"] for row in json.loads(to_json(board))["rows"]]:
        raise Broken(f"the board's JSON has no row for '{recipe}'")
    table = [line for line in to_markdown(board).splitlines() if line.startswith("|")]
    if len(table) != len(board.rows) + 2 or len(to_csv(board).splitlines()) != len(board.rows) + 1:
        raise Broken("the board's tables do not have one line a row; look for line breaks in the card")
