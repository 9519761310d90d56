"""The Hugging Face hub: where it is, and whether it can be reached."""

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
    """Whether the hub, or the proxy that leads to it, accepts a connection within `seconds`."""
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

    # Name resolution obeys no timeout, so that the attempt runs in a thread that nobody needs to wait for.
    finished = threading.Event()
    threading.Thread(target=attempt, daemon=True, name="hub-reachable").start()
    finished.wait(seconds)
    return answered.is_set()


def hub_address() -> tuple[str, int]:
    """Host and port of the hub, or of the proxy that the environment names for it."""
    url = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT)
    host = url.hostname or "huggingface.co"
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        through = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
        if through.hostname:
            return through.hostname, through.port or 80
    return host, url.port or (80 if url.scheme == "http" else 443)


def hub_answers() -> bool:
    """Whether models can be had from the hub; asked once a process and address, and never in offline mode."""
    return not is_set("HF_HUB_OFFLINE") and _answers(hub_address())


@cache
def _answers(address: tuple[str, int]) -> bool:
    return reachable()


def is_set(variable: str) -> bool:
    """Whether an environment variable says yes, as the hub's own library reads it."""
    return os.environ.get(variable, "").upper() in _TRUE
