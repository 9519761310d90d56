"""The profile of a student against an encoder, which has other components and another vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.models.artifacts import save_artifact
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.models.factory import make_model
from harness.models.students.config import RecurrentConfig
from harness.profiling.profile import profile_artifact
from harness.records.schema import Workload

B, N, E, H, CLASSIFIER = 2, 24, 6, 5, 7


@pytest.mark.parametrize("paired", [False, True])
def test_a_student_beside_its_baseline(paired: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.profiling.profile.FULL_CAP_S", 0.0)
    generator = torch.Generator().manual_seed(0)
    encoder = Encoder(EncoderConfig.bert(2, 64, heads=2, vocab_size=50, positions=32)).initialize(generator)
    config = RecurrentConfig(
        vocab_size=30, embedding_size=E, hidden=H, classifier=CLASSIFIER, positions=32, paired=paired
    )
    student = make_model(config).initialize(generator)
    save_artifact(encoder, tmp_path / "baseline")
    save_artifact(student, tmp_path / "student")
    found = profile_artifact(
        tmp_path / "student",
        tmp_path / "baseline",
        recipe="bilstm",
        model="small",
        weights="random",
        workload=Workload(batch=B, length=N),
        time_cap_s=1.0,
    )
    assert [component.name for component in found.components] == ["embedding", "body", "head"]
    # Synthetic rows have an empty second text, which is read as one padding token.
    tokens, texts = N + paired, 4 if paired else 1
    body = B * tokens * 2 * 4 * H * (E + H)
    head = B * (texts * 2 * H * CLASSIFIER + CLASSIFIER * 2)
    assert [component.flops for component in found.components] == [0, 2 * body, 2 * head]
    assert found.total.flops == 2 * (body + head)
    assert found.total.uncounted_operators == []
    assert found.total.params == sum(parameter.numel() for parameter in student.parameters())
    assert found.total.peak_memory_bytes is not None
    assert found.baseline is not None
    assert found.baseline.params == sum(parameter.numel() for parameter in encoder.parameters())
    assert all(component.latency_ms is not None for component in found.components)
    assert found.realised["flops"]
    assert found.realised["parameters"]
    assert found.realised["disk"]
