"""Checks of an adapter's declarations: its card, its id, its options, and the cost of importing its file."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

from harness.common.errors import SkylineError, nearest
from harness.compression.card import FAMILIES, Claim
from harness.compression.method import Method, parse_options
from harness.conformance import fresh
from harness.conformance.subject import Broken, Subject
from harness.recipes.discovery import file_id, in_words

IMPORT_SECONDS = 0.5
"""The most processor time that importing an adapter may take."""


def check_card(subject: Subject) -> None:
    """Check that the card is complete, uses only known values, and is plain JSON."""
    card = subject.method.card
    problems = card.problems()
    for claim in card.claims:
        if claim.split not in (allowed := get_args(get_type_hints(Claim)["split"])):
            problems.append(f"a claim's split is '{claim.split}', none of {', '.join(allowed)}")
    # `Card.problems` does not look at the clock, so years in the future are found here.
    if datetime.now(UTC).year + 1 < card.paper.year <= 2100:
        problems.append(f"paper.year is {card.paper.year}, no year of publication")
    folder = file_id(subject.path.parent.name) if subject.path is not None else ""
    if folder in FAMILIES and card.family in FAMILIES and folder != card.family:
        problems.append(f"family is '{card.family}', but its file stands in {folder.replace('-', '_')}")
    try:
        json.dumps(card.to_dict(), allow_nan=False)
    except (TypeError, ValueError) as error:
        problems.append(f"it is not plain JSON ({error})")
    if problems:
        raise Broken("; ".join(problems))


def check_identity(subject: Subject) -> None:
    """Check that the id is in kebab case and equals the file's name."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", subject.id):
        raise Broken(f"the id '{subject.id}' is not in kebab case, as in 'my-pruning'")
    if subject.path is not None and file_id(subject.path.stem) != subject.id:
        raise Broken(f"the id is '{subject.id}', its file's name asks for '{file_id(subject.path.stem)}'")


def check_interface(subject: Subject) -> None:
    """Check that each public name of the class is also in a base class. Any other may be a misspelt hook."""
    bases = subject.method.__mro__[1:]
    known = {name for base in bases for name in (*vars(base), *inspect.get_annotations(base))}
    for name in vars(subject.method):
        if not name.startswith("_") and name not in known:
            close = nearest(name, (each for each in known if not each.startswith("_")))
            raise Broken(
                f"'{name}' is not part of the interface of methods"
                + (f" (did you mean '{close}'?)" if close else "")
                + "; begin the name of a helper with an underscore"
            )


def check_options(subject: Subject) -> None:
    """Check that options are documented, frozen and validated, that the suite's values are valid, and that a recipe's
    text reads back as the same options.
    """
    options = subject.method.Options
    parameters = getattr(options, "__dataclass_params__", None)
    if not is_dataclass(options) or not getattr(parameters, "frozen", False):
        raise Broken("Options is not a frozen dataclass; decorate it with @options")
    names = [field.name for field in fields(options)]
    own = (options.__doc__ or "").strip()
    if names and (not own or own.startswith(f"{options.__name__}(")):
        raise Broken("Options has no docstring; say what each option means")
    for name, values in subject.method.suite.items():
        if name not in names:
            raise Broken(
                f"the suite names '{name}', which is not an option; known: {', '.join(names) or 'none'}"
            )
        if not isinstance(values, tuple) or not values:
            raise Broken(f"the suite has no tuple of values for '{name}'")
    if subject.suite_fault is not None:
        raise Broken(f"the suite has a value that the options refuse: {subject.suite_fault}")
    for name in names:
        _probe(subject.method, name)
    _probe_unknown(subject.method, names)
    for stage in subject.configurations():
        try:
            same = subject.parse(str(stage)).stages == (stage,)
        except SkylineError as error:
            raise Broken(f"the recipe '{stage}' cannot be read back: {error}") from None
        if not same:
            raise Broken(f"the recipe '{stage}' reads back as other options")


def _probe(method: type[Method], name: str) -> None:
    """Check that an option refuses a meaningless word, and very large or very small numbers."""
    words = {text: _refuses(method, {name: text}) for text in ("no-such-value", "-1000000000", "1000000000")}
    if not words["no-such-value"]:
        raise Broken(f"option '{name}' takes any text; make it a Literal, a number with bounds or a bool")
    if not (words["-1000000000"] or words["1000000000"]):
        raise Broken(f"option '{name}' takes any number; bound it, as in Annotated[int, Field(ge=1)]")


def _probe_unknown(method: type[Method], names: list[str]) -> None:
    unknown = names[0] if names else "anything"
    while unknown in names:
        unknown += "x"
    try:
        parse_options(method, {unknown: "1"})
    except SkylineError as error:
        if names and not any(name in str(error).replace(unknown, "") for name in names):
            raise Broken(f"for the unknown option '{unknown}' nothing suggests '{names[0]}'") from None
    except Exception as error:
        raise Broken(f"the unknown option '{unknown}' raises {in_words(error)}") from None
    else:
        raise Broken(f"the unknown option '{unknown}' is accepted; decorate Options with @options")


def _refuses(method: type[Method], given: dict[str, str]) -> bool:
    try:
        parse_options(method, given)
    except SkylineError:
        return True
    except Exception as error:
        raise Broken(
            f"option {next(iter(given.items()))} raises {in_words(error)}, no SkylineError"
        ) from None
    return False


def check_import(subject: Subject) -> None:
    """Check in a fresh interpreter that importing the file prints nothing, is fast and loads no heavy package."""
    if subject.path is None:
        return
    command = [sys.executable, "-m", fresh.__name__, str(subject.path)]
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths}
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Broken(f"a fresh interpreter cannot import the file: {last}")
    *printed, figures = done.stdout.strip().splitlines()
    cost: dict[str, Any] = json.loads(figures)
    if cost["heavy"]:
        packages = ", ".join(cost["heavy"])
        raise Broken(f"importing the file imports {packages}; import that inside the hooks")
    if printed:
        raise Broken(f"importing the file prints '{printed[0]}'")
    if cost["seconds"] > IMPORT_SECONDS:
        raise Broken(
            f"importing the file takes {cost['seconds']:.1f} s (allowed {IMPORT_SECONDS}); "
            "do that work inside the hooks"
        )
