"""What all configurations of models are: immutable pydantic models, stored as JSON."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class FrozenConfig(BaseModel):
    """Base of all configurations: immutable, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def without_absent(data: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Leave out of a serialized configuration those of `names` that are None: older files have no such keys."""
    return {name: value for name, value in data.items() if name not in names or value is not None}
