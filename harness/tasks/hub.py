"""Read data sets from the Hugging Face hub, or from the cache that `datasets` filled earlier."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.common.errors import Code, SkylineError
from harness.common.hub import hub_address, is_set, reachable
from harness.common.lazy import lazy_imports

with lazy_imports():
    import datasets


def cached_splits(repository: str, config: str) -> dict[str, list[Path]]:
    """Return the Arrow files of each split in the `datasets` cache; {} if the data set is not cached.

    If several versions are cached, the newest is used. Needs neither a network nor `import datasets`.
    """
    dataset = repository.rpartition("/")[2]
    root = _cache_root()
    # `datasets` before version 2.15 left the owner out of the name of the cache folder.
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
    """Check that the data set is cached or that the hub can be reached. Takes a second at most.

    The values of `splits` are the hub's names of the required splits. Raises SkylineError (`no-data`).
    """
    if set(splits.values()) <= set(cached_splits(repository, config)):
        return
    offline = next((name for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE") if is_set(name)), None)
    if offline is not None:
        raise _no_data(task, f"{offline} forbids the network and {repository} is not in its cache")
    if not reachable():
        raise _no_data(task, f"the hub ({hub_address()[0]}) does not answer")


def rows(task: str, repository: str, config: str, split: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of one split as dictionaries, from the cache or else from the hub.

    `split` is the hub's name. Raises SkylineError (`no-data`) if the data set does not load.
    """
    cached = cached_splits(repository, config).get(split)
    try:
        if cached:
            data = datasets.concatenate_datasets([datasets.Dataset.from_file(str(path)) for path in cached])
        else:
            data = datasets.load_dataset(repository, config, split=split)
    except Exception as error:  # the hub, the network and a damaged cache raise many kinds
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise _no_data(task, f"{repository} did not load ({reason})") from error
    yield from data


def _cache_root() -> Path:
    """Return the cache folder of `datasets`."""
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
        "SKYLINE_DATA_DIR, or connect to a network",
        Code.NO_DATA,
    )
