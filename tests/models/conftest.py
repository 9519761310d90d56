"""No hub: names load as on a machine without a network."""

from __future__ import annotations

import pytest

from harness.models.checkpoints import places


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "hub_folder", lambda name: None)
