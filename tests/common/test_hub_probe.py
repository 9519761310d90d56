"""The hub is asked at the mirror or proxy that the environment names, and a hub that does not answer costs no time."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from harness.common.hub import hub_answers, reachable
from harness.models.checkpoints import BASE_MODELS, places, random_model, save_checkpoint
from harness.models.config import EncoderConfig

VARIABLES = (
    "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "http_proxy", "https_proxy", "HTTP_PROXY",
    "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY",
)  # fmt: skip


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_the_endpoint_of_the_environment_is_asked(
    listening: int, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    assert not hub_answers()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening}")
    assert hub_answers()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not hub_answers()


def test_the_proxy_is_asked_where_there_is_one(
    listening: int, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"https://127.0.0.1:{closed_port}")
    assert not hub_answers()
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{listening}")
    assert hub_answers()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert not hub_answers()


def test_a_name_that_never_resolves_does_not_hold_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(*_: object, **__: object) -> None:
        release.wait(60)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", hang)
    assert not reachable(seconds=0.05)
    monkeypatch.setenv("HF_ENDPOINT", "https://never-resolves.example")
    assert not hub_answers()
    assert not release.is_set()
    release.set()


def test_an_address_is_asked_once(listening: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening}")
    assert hub_answers()
    monkeypatch.setattr(socket, "create_connection", None)
    assert hub_answers()


def test_without_a_hub_only_the_cache_is_asked(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked: list[bool] = []

    def download(name: str, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append(local_files_only)
        raise LocalEntryNotFoundError("not cached")

    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert places.hub_folder("some/model") is None
    assert asked == [True]


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Mirror(BaseHTTPRequestHandler):
    """The part of the hub that a download needs, for one folder under one name."""

    folder: Path
    name: str

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        start = f"/{self.name}/resolve/{COMMIT}/"
        if path.startswith(f"/api/models/{self.name}/revision/"):
            siblings = [{"rfilename": file.name} for file in self.folder.iterdir()]
            model = {"id": self.name, "modelId": self.name, "sha": COMMIT, "siblings": siblings}
            content = json.dumps({**model, "private": False, "tags": [], "downloads": 0, "likes": 0}).encode()
        elif path == f"/api/models/{self.name}/tree/{COMMIT}":
            files = [
                {"type": "file", "oid": COMMIT, "path": file.name, "size": file.stat().st_size}
                for file in self.folder.iterdir()
            ]
            content = json.dumps(files).encode()
        elif path.startswith(start) and (self.folder / path.removeprefix(start)).is_file():
            content = (self.folder / path.removeprefix(start)).read_bytes()
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def test_weights_come_from_the_mirror_that_the_environment_names(tmp_path: Path) -> None:
    """With a mirror, a built-in BERT gets real weights and not random ones. The mirror serves a small model."""
    model = random_model(EncoderConfig.bert(1, 8, heads=2, ffn=8, vocab_size=11, positions=5), seed=3)
    save_checkpoint(model, tmp_path / "served")
    handler = type("Served", (Mirror,), {"folder": tmp_path / "served", "name": BASE_MODELS["bert-tiny"].hub})
    script = (
        "from harness import load_model; from harness.models.checkpoints import origin_of; import torch, sys;"
        "model = load_model('bert-tiny'); assert model.origin == origin_of('bert-tiny');"
        "torch.save(model.embedding.word.weight.data, sys.argv[1]); print(model.origin)"
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            **{name: value for name, value in os.environ.items() if name not in VARIABLES},
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
        }
        command = [sys.executable, "-c", script, str(tmp_path / "words")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256((tmp_path / "served" / "model.safetensors").read_bytes()).hexdigest()
    assert done.stdout.strip() == f"sha256:{digest}"
    assert torch.equal(torch.load(tmp_path / "words", weights_only=True), model.embedding.word.weight.data)
