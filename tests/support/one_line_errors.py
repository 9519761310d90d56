"""The check that every part of Skyline refuses a user's mistake in one line, with a code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.common.errors import Code, SkylineError


@contextmanager
def refused(code: Code | str, *names: str) -> Iterator[pytest.ExceptionInfo[SkylineError]]:
    """The block must raise a SkylineError with `code`, in one line that contains each of `names`.

    A plain string in place of the code is a regular expression that the message must match.
    """
    with pytest.raises(SkylineError, match=None if isinstance(code, Code) else code) as error:
        yield error
    message = str(error.value)
    assert "\n" not in message
    assert [name for name in names if name not in message] == [], message
    if isinstance(code, Code):
        assert error.value.code == code, message
