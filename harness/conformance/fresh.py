"""The parts of conformance that need a fresh process: import an adapter, load an artifact.

`python -m harness.conformance.fresh FILE` prints the cost of importing the adapter FILE as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "evaluate",
    "pandas",
    "scipy",
    "sklearn",
    "fvcore",
    "onnx",
    "jax",
)
"""Packages that an adapter may import only inside its hooks, because `skyline methods` imports every adapter."""


def import_cost(path: Path) -> dict[str, object]:
    """Import an adapter file. Return the `seconds` of processor time that this took after the harness was imported, and
    the `heavy` packages that it loaded.
    """
    import harness.recipes.discovery

    before, started = set(sys.modules), time.process_time()
    harness.recipes.discovery.load_file(path, "skyline_adapter_import_cost")
    seconds = time.process_time() - started
    heavy = [name for name in HEAVY if name in sys.modules and name not in before]
    return {"seconds": seconds, "heavy": heavy}


def import_effects(path: Path) -> list[str]:
    """Import an adapter file after torch and NumPy, and return the names of global state that it changed."""
    import torch

    from harness.conformance.state import GlobalState
    from harness.recipes.discovery import load_file

    torch.manual_seed(0)
    before = GlobalState.now()
    load_file(path, "skyline_adapter_import_effects")
    return before.changes(GlobalState.now())


def artifact_logits(
    folder: Path, rows: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], threads: int
) -> NDArray[np.float32]:
    """Load an artifact and return its logits (b, outputs) on a batch of ids, mask and segments (b, n)."""
    import torch

    from harness.models.artifacts import load_artifact
    from harness.models.batch import Batch

    torch.set_num_threads(threads)
    model = load_artifact(folder)
    with torch.inference_mode():
        logits: NDArray[np.float32] = model(Batch(*(torch.from_numpy(row) for row in rows))).logits.numpy()
    return logits


if __name__ == "__main__":
    print(json.dumps(import_cost(Path(sys.argv[1]))))
