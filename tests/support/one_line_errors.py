"""Refusals as every part of Skyline makes them: one line, which says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.common.errors import SkylineError


@contextmanager
def refused(says: str) -> Iterator[pytest.ExceptionInfo[SkylineError]]:
    """What is done inside must be refused, in one line in which the regular expression `says` is found."""
    with pytest.raises(SkylineError, match=says) as error:
        yield error
    assert "\n" not in str(error.value)
