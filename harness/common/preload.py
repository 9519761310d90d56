"""Freeze the garbage collector of the process server. The server imports this module last (see `processes.PRELOAD`).

Python's collector then skips all objects that the server has loaded. Otherwise the first full collection of each forked
child would visit torch's objects and copy their memory, which takes a quarter of a second.
"""

from __future__ import annotations

import gc

gc.collect()
gc.freeze()
