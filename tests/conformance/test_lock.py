"""The lock: every method does what it did when its version was last raised, and an edit of a helper is seen in just the
methods that use it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.common.errors import Code, SkylineError
from harness.compression.pruning import masks
from harness.conformance import lock as locking
from harness.conformance.lock import (
    Behaviour,
    Lock,
    Locked,
    Nudge,
    behaviour_of,
    fault,
    read_lock,
    renewed,
    write_lock,
)
from harness.recipes.discovery import Found, Registry, discover

OWN = locking.own_methods(discover())
LOCK = read_lock(locking.lock_file())


@pytest.mark.parametrize("identity", [None, *OWN])
def test_what_is_produced_is_what_was_locked(identity: str | None) -> None:
    """Where this fails, the message says what to do: raise the version, or `skyline lock`."""
    assert fault(LOCK, identity or "", OWN[identity] if identity else None) is None


def test_the_lock_holds_these_methods_and_no_other() -> None:
    assert set(LOCK.methods) == set(OWN)


def test_an_edited_helper_is_seen_in_the_methods_that_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = masks.keep_largest

    def one_more(scores, sparsity, scope):  # a helper of magnitude pruning, edited
        return plain(scores, sparsity * 0.9, scope)

    monkeypatch.setattr(masks, "keep_largest", one_more)
    assert fault(LOCK, "magnitude", OWN["magnitude"]) is not None
    assert fault(LOCK, "layer-drop", OWN["layer-drop"]) is None


def test_a_nudge_of_the_weights_is_within_the_tolerance() -> None:
    for identity in ("magnitude", "gobo", "q-bert"):
        nudged = behaviour_of(OWN[identity].method, OWN[identity].path, Nudge(1e-6, seed=9))
        for name, known in LOCK.methods[identity].behaviour.items():
            assert nudged[name].distance(known) <= known.tolerance


def raised(identity: str) -> Found:
    """A method whose card has the next version."""
    found = OWN[identity]
    card = replace(found.method.card, version=found.method.card.version + 1)
    return Found(type("Raised", (found.method,), {"card": card}), found.source, found.path)


def test_a_raised_version_asks_for_a_new_lock() -> None:
    known = LOCK.methods["layer-drop"].version
    message = fault(LOCK, "layer-drop", raised("layer-drop"))
    assert message is not None
    assert f"version {known + 1}" in message
    assert "skyline lock layer-drop" in message


def test_a_method_that_is_not_locked_is_named() -> None:
    message = fault(Lock(baseline=LOCK.baseline, methods={}), "layer-drop", OWN["layer-drop"])
    assert message is not None
    assert "skyline lock layer-drop" in message


def test_one_method_is_renewed_and_what_is_gone_is_left_out(tmp_path: Path) -> None:
    gone = LOCK.model_copy(update={"methods": {**LOCK.methods, "gone": LOCK.methods["gobo"]}})
    registry = Registry({**OWN, "layer-drop": raised_in_repository("layer-drop")}, {})
    new = renewed(gone, registry, ["layer-drop"])
    assert set(new.methods) == set(OWN)
    assert new.methods["layer-drop"].version == LOCK.methods["layer-drop"].version + 1
    assert {k: v for k, v in new.methods.items() if k != "layer-drop"} == {
        k: v for k, v in LOCK.methods.items() if k != "layer-drop"
    }
    write_lock(tmp_path / "lock.json", new)
    assert read_lock(tmp_path / "lock.json") == new


def raised_in_repository(identity: str) -> Found:
    found = raised(identity)
    found.method.__module__ = OWN[identity].method.__module__
    return found


@pytest.mark.parametrize(
    ("content", "code"), [(None, Code.NOT_FOUND), ("{", Code.DAMAGED), ('{"methods": {}}', Code.DAMAGED)]
)
def test_a_lock_that_cannot_be_read(tmp_path: Path, content: str | None, code: Code) -> None:
    path = tmp_path / "lock.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SkylineError) as error:
        read_lock(path)
    assert error.value.code == code


def test_unknown_names_and_another_version_of_the_training_are_refused() -> None:
    registry = Registry(OWN, {})
    with pytest.raises(SkylineError) as error:
        renewed(LOCK, registry, ["layer-dorp"])
    assert error.value.code == Code.UNKNOWN_NAME
    older = LOCK.model_copy(update={"baseline": LOCK.baseline.model_copy(update={"version": 1})})
    with pytest.raises(SkylineError) as error:
        renewed(older, registry, ["layer-drop"])
    assert error.value.code == Code.WRONG_VERSION


def test_distances() -> None:
    one = Behaviour(shape="a", losses=(2.0,), logits=(1.0, -4.0))
    assert one.distance(one) == 0
    assert one.distance(one.model_copy(update={"logits": (1.0, -4.4)})) == pytest.approx(0.4 / 4.4)
    assert one.distance(one.model_copy(update={"losses": (1.0,)})) == pytest.approx(0.5)
    for change in ({"shape": "b"}, {"refused": True}, {"logits": (1.0,)}):
        assert one.distance(one.model_copy(update=change)) == float("inf")
    assert Locked(version=1, behaviour={"a": one}).behaviour["a"] == one
