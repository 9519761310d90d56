"""Check that a mistake is refused the way all of Skyline refuses: a SkylineError whose message is one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.common.errors import Code, SkylineError


@contextmanager
def refused(code: Code | str, *names: str) -> Iterator[pytest.ExceptionInfo[SkylineError]]:
    """Require that the block raises a SkylineError with this code, in one line that contains each of `names`.

    Names are figures, options and paths that the message must give, not its sentences. A plain string in place of the
    code is a regular expression that the message must match.
    """
    with pytest.raises(SkylineError) as error:
        yield error
    message = str(error.value)
    assert "\n" not in message
    if isinstance(code, Code):
        assert error.value.code is code, f"{error.value.code!r}: {message}"
    else:
        assert re.search(code, message), message
    for name in names:
        assert name in message, message
