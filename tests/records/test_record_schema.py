"""The committed JSON Schema is up to date, accepts every committed record, and refuses what the reader refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from harness.common.errors import Code
from harness.records.schema import FORMAT, json_schema, parse_record, read_record
from tests.support.one_line_errors import refused

PROFILES = Path(__file__).parents[2] / "profiles"
SCHEMA = PROFILES / "record.schema.json"
RECORDS = sorted((PROFILES / "measured").glob("*/*.json"))


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def data_of(kind: str) -> dict[str, Any]:
    return next(data for data in map(_read, RECORDS) if data["kind"] == kind and data["status"] == "ok")


def _read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def test_the_committed_schema_is_fresh() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == json_schema(), (
        "run: python -m harness.records.schema > profiles/record.schema.json"
    )


def test_the_command_prints_the_committed_file() -> None:
    command = [sys.executable, "-m", "harness.records.schema"]
    done = subprocess.run(command, cwd=PROFILES.parent, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (SCHEMA.read_text(encoding="utf-8"), "")


def test_every_committed_record_is_valid(validator: Draft202012Validator) -> None:
    assert RECORDS
    for path in RECORDS:
        errors = [
            f"{path.name}: {error.json_path}: {error.message}" for error in validator.iter_errors(_read(path))
        ]
        assert errors == []


BROKEN: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "no format": ("quality", lambda d: d.pop("format")),
    "another format": ("quality", lambda d: d.update(format=FORMAT + 1)),
    "a boolean format": ("quality", lambda d: d.update(format=True)),
    "no key": ("quality", lambda d: d.pop("key")),
    "unknown field": ("quality", lambda d: d.update(colour="red")),
    "unknown field within": ("profile", lambda d: d["profile"]["total"].update(colour="red")),
    "unknown status": ("quality", lambda d: d.update(status="fine")),
    "scores as words": ("quality", lambda d: d["quality"]["scores"].update(accuracy="high")),
    "an interval of one": ("quality", lambda d: d["quality"]["ci95"].update(accuracy=[90.0])),
    "no hardware": ("profile", lambda d: d["provenance"].pop("hardware")),
    "half a parameter": ("profile", lambda d: d["artifact"].update(params=0.5)),
    "no sequences": ("profile", lambda d: d["profile"]["workload"].update(batch=0)),
    "unknown cost": ("profile", lambda d: d["profile"]["realised"].update(beauty=True)),
}

CODES = {
    "no format": Code.WRONG_KIND,
    "a boolean format": Code.WRONG_KIND,
    "another format": Code.WRONG_VERSION,
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_records_are_refused_as_by_the_reader(case: str, validator: Draft202012Validator) -> None:
    kind, spoil = BROKEN[case]
    data = deepcopy(data_of(kind))
    parse_record(json.dumps(data), "record")
    spoil(data)
    assert not validator.is_valid(data)
    with refused(CODES.get(case, Code.DAMAGED), "record"):
        parse_record(json.dumps(data), "record")


def test_unreadable_files_and_old_formats_are_refused(tmp_path: Path) -> None:
    with refused(Code.UNREADABLE, "record", "line 1"):
        parse_record("{", "record")
    with refused(Code.WRONG_VERSION, "record", "format 0"):
        parse_record('{"format": 0}', "record")
    with refused(Code.UNREADABLE, str(tmp_path / "none.json")):
        read_record(tmp_path / "none.json")


def test_other_json_is_not_a_record(validator: Draft202012Validator) -> None:
    for value in ([], "record", None, {}, {"format": 1}):
        assert not validator.is_valid(value)
