"""What all parts of a scenario have in common."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from nve.model import NAME


def _a_name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a valid name here; give a letter, then up to 6 letters or digits"
        )
    return text


Name = Annotated[str, AfterValidator(_a_name)]
"""The name of a VM or an NVE."""


class Part(BaseModel):
    """A part of a scenario: unknown keys are refused, nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def no_such(what: str, name: str, known: Iterable[str]) -> str:
    """Return the complaint about a name that does not exist."""
    return f"there is no {what} {name!r}; there are {', '.join(known)}"
