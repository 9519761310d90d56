"""What the server of processes imports last (`harness.common.processes.PRELOAD`), and nobody else.

All that it holds by now is there for good. Python's collector then leaves it alone: a child's first full collection
would else go through torch and all the rest, and have its memory copied, in a quarter of a second each time.
"""

from __future__ import annotations

import gc

gc.collect()
gc.freeze()
