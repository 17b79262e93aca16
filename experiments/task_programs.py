"""Finds tasks of a scenario whose program does not exist, cannot move, or has other arguments.

This imports the programs, as their processes will do: of one's own, also from the working
directory.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from experiments.scenario.errors import complaints
from experiments.scenario.parts import no_such
from experiments.scenario.schema import Scenario
from nve.task import program
from nve.task.program import NoSuchProgram


def mistakes(scenario: Scenario) -> Iterator[str]:
    """Yield a sentence for each task that could not start."""
    for name, task in scenario.tasks.items():
        place = f"tasks.{name}"
        try:
            with _working_directory_is_searched():
                kind = program.find(task.program)
        except NoSuchProgram as error:
            yield f"{place}.program: {error}"
            continue
        for key, complaint in _of_arguments(getattr(kind, "ARGUMENTS", None), task.arguments):
            yield f"{place}.arguments{key and '.'}{key}: {complaint}"


@contextmanager
def _working_directory_is_searched() -> Iterator[None]:
    before = sys.path[:]
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = before


def _of_arguments(kind: Any, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the arguments for a dataclass `kind`: (key, complaint)."""
    if kind is None:
        return
    types, sound = get_type_hints(kind), True
    for key in given:
        if key not in types:
            sound = False
            yield key, no_such("argument", key, types)
    for field in fields(kind):
        if field.name in given:
            try:
                TypeAdapter(types[field.name]).validate_python(given[field.name], strict=True)
            except ValidationError as error:
                sound = False
                yield field.name, complaints(error)
        elif field.default is MISSING and field.default_factory is MISSING:
            sound = False
            yield field.name, "this is missing; add it"
    if sound:
        try:
            kind(**given)
        except ValueError as error:
            yield "", str(error)
