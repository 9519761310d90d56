"""Records with scores, for the tests of findings: their terms, training figures and predictions."""

from __future__ import annotations

from typing import Any

from harness.records.schema import Predictions, Record, Training


def stage_with(precision: str = "float32", **figures: float) -> Training:
    """A stage of training that found these figures."""
    return Training.model_validate(
        {
            "stage": "a stage",
            "epochs": 1.0,
            "steps": 1,
            "examples": 1,
            "seconds": 1.0,
            "final_loss": 1.0,
            "precision": precision,
            "figures": figures,
        }
    )


def with_training(record: Record, *stages: Training) -> Record:
    """The record with these stages."""
    assert record.quality is not None
    changed = record.quality.model_copy(update={"training": list(stages)})
    return record.model_copy(update={"quality": changed})


def with_figures(record: Record, **figures: float) -> Record:
    """The record with a stage that found these figures."""
    return with_training(record, stage_with(**figures))


def under(record: Record, protocol: str | None = None, started: str = "", **cell: Any) -> Record:
    """The record of a cell with this protocol, and `recipe` and `baseline` budgets."""
    budget = {part: cell.pop(part, {}) for part in ("baseline", "recipe")}
    own = {"budget": budget, **cell} | ({"protocol": protocol} if protocol else {})
    provenance = record.provenance.model_copy(update={"started": started} if started else {})
    key = f"{record.key}/{sorted(own.items(), key=str)}"
    return record.model_copy(update={"cell": own, "key": key, "provenance": provenance})


def answering(record: Record, *answered: int) -> Record:
    """The record whose model gave each class to so many examples."""
    assert record.quality is not None
    kept = Predictions(rows=sum(answered), scores="", answered=answered, majority=50.0)
    changed = record.quality.model_copy(update={"predictions": kept})
    return record.model_copy(update={"quality": changed})
