"""Data sets from the Hugging Face hub, or from the cache that `datasets` filled on an earlier visit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.common.errors import SkylineError
from harness.common.hub import hub_address, is_set, reachable
from harness.common.lazy import lazy_imports

with lazy_imports():
    import datasets


def cached_splits(repository: str, config: str) -> dict[str, list[Path]]:
    """The Arrow files of a data set in the `datasets` cache, by split; {} where it is not cached.

    Of several cached versions the newest counts. Needs neither a network nor `import datasets`.
    """
    dataset = repository.rpartition("/")[2]
    root = _cache_root()
    # `datasets` before version 2.15 cached the same data under the name without its owner.
    folders = [
        folder
        for name in (repository.replace("/", "___"), dataset)
        for folder in root.glob(f"{name}/{config}/*/*")
        if (folder / "dataset_info.json").is_file()
    ]
    if not folders:
        return {}
    newest = max(folders, key=lambda folder: folder.stat().st_mtime)
    splits: dict[str, list[Path]] = {}
    for path in sorted(newest.glob(f"{dataset}-*.arrow")):
        splits.setdefault(path.stem.split("-")[1], []).append(path)
    return splits


def require(task: str, repository: str, config: str, splits: Mapping[str, str]) -> None:
    """Raise `SkylineError`, within a second or so, unless the data set is cached or the hub can be reached.

    `splits` gives the hub's name of each split that is needed.
    """
    if set(splits.values()) <= set(cached_splits(repository, config)):
        return
    offline = next((name for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE") if is_set(name)), None)
    if offline is not None:
        raise _no_data(task, f"{offline} forbids the network and {repository} is not in its cache")
    if not reachable():
        raise _no_data(task, f"the hub ({hub_address()[0]}) does not answer")


def rows(task: str, repository: str, config: str, split: str) -> Iterator[dict[str, Any]]:
    """The rows of one split (the hub's name for it) as dictionaries, from the cache or else the hub."""
    cached = cached_splits(repository, config).get(split)
    try:
        if cached:
            data = datasets.concatenate_datasets([datasets.Dataset.from_file(str(path)) for path in cached])
        else:
            data = datasets.load_dataset(repository, config, split=split)
    except Exception as error:  # whatever the hub, the network or a torn cache brings up
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise _no_data(task, f"{repository} did not load ({reason})") from error
    yield from data


def _cache_root() -> Path:
    """Where `datasets` keeps what it prepared."""
    if explicit := os.environ.get("HF_DATASETS_CACHE"):
        return Path(explicit).expanduser()
    home = os.environ.get("HF_HOME")
    if not home:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        home = str(Path(base) / "huggingface")
    return Path(home).expanduser() / "datasets"


def _no_data(task: str, reason: str) -> SkylineError:
    return SkylineError(
        f"no data for task '{task}': {reason}; name a folder in GLUE's layout with --data-dir or "
        "SKYLINE_DATA_DIR, or connect to a network"
    )
