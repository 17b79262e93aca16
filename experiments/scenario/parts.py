"""What all parts of a scenario have in common."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from nve.model import NAME, IPAddress


def _a_name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a valid name here; give a letter, then up to 6 letters or digits"
        )
    return text


Name = Annotated[str, AfterValidator(_a_name)]
"""The name of a VM or an NVE."""


def _an_address(given: object) -> IPAddress:
    if isinstance(given, IPv4Address | IPv6Address):
        return given
    try:
        return ip_address(str(given))
    except ValueError:
        raise ValueError(f"{given!r} is not an IPv4 or IPv6 address") from None


Address = Annotated[IPv4Address | IPv6Address, BeforeValidator(_an_address)]

LIST, MAPPING = "[]", "{}"
"""The tags of two forms that a value may have; no part of its place in the file."""


def form(given: object) -> str:
    """Return which of the two forms a value has."""
    return MAPPING if isinstance(given, Mapping) else LIST


class Part(BaseModel):
    """A part of a scenario: unknown keys are refused, nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def no_such(what: str, name: str, known: Iterable[str]) -> str:
    """Return the complaint about a name that does not exist."""
    return f"there is no {what} {name!r}; there are {', '.join(known)}"
