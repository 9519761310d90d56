"""Address of the Hugging Face hub, and whether it answers."""

from __future__ import annotations

import os
import socket
import threading
import urllib.parse
import urllib.request
from functools import cache

CONNECT_SECONDS = 0.8
DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE = {"1", "ON", "YES", "TRUE"}


def reachable(seconds: float = CONNECT_SECONDS) -> bool:
    """Return whether the hub, or the proxy in front of it, accepts a connection within `seconds`."""
    address = hub_address()
    answered = threading.Event()

    def attempt() -> None:
        try:
            with socket.create_connection(address, timeout=seconds):
                answered.set()
        except OSError:
            pass
        finally:
            finished.set()

    # Name resolution ignores the timeout, so the attempt runs in a thread that can be abandoned.
    finished = threading.Event()
    threading.Thread(target=attempt, daemon=True, name="hub-reachable").start()
    finished.wait(seconds)
    return answered.is_set()


def hub_address() -> tuple[str, int]:
    """Return host and port of the hub, or of its proxy if the environment names one."""
    url = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT)
    host = url.hostname or "huggingface.co"
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        through = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
        if through.hostname:
            return through.hostname, through.port or 80
    return host, url.port or (80 if url.scheme == "http" else 443)


def hub_answers() -> bool:
    """Return whether the hub answers. Asks once for each process and address, and never in offline mode."""
    return not is_set("HF_HUB_OFFLINE") and _answers(hub_address())


@cache
def _answers(address: tuple[str, int]) -> bool:
    return reachable()


def is_set(variable: str) -> bool:
    """Return whether an environment variable is true, by the rule of `huggingface_hub`."""
    return os.environ.get(variable, "").upper() in _TRUE
