"""The mistakes in a scenario, in sentences that name the field as its author wrote it.

Most sentences are pydantic's own; what they lack is added here.  A place is shown as the author
wrote it: without the number that a move has only since its series was spelt out.
"""

from collections.abc import Callable, Sequence

from pydantic import ValidationError

from experiments.scenario.parts import LIST, MAPPING

_NO_PLACE = (LIST, MAPPING, "[key]")
"""What pydantic adds to a place, besides keys and numbers."""
_LONGEST = 60
"""The longest that is shown of a value."""
_FORMS = {
    "model_type": "keys with their values",
    "dict_type": "keys with their values",
    "list_type": "a list, as in [a, b]",
    "tuple_type": "a list, as in [a, b]",
}


def complaints(
    error: ValidationError,
    written_at: Sequence[str] = (),
    position: Callable[[str], str] = lambda _: "",
) -> str:
    """Return pydantic's findings as sentences: field, and what is wrong.

    `written_at`: where the n-th move was written, if that is not the n-th entry of `moves`.
    `position`: returns what to say of a place's position in its file.
    """
    sentences: list[str] = []
    places: list[str] = []
    for found in error.errors():
        place = ".".join(str(part) for part in found["loc"] if part not in _NO_PLACE)
        places.append(place)
        message = found["msg"].removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            message = "there is no such key here; check the spelling or remove it"
        if found["type"] == "missing":
            message = "this is missing; add it"
        if found["type"] in ("literal_error", "enum"):
            message += f", not {found['input']!r}"
        if found["type"] in _FORMS:
            message = f"this is {_shown(found['input'])}; give {_FORMS[found['type']]}"
        if found["type"] == "too_short":
            if any(each.startswith(f"{place}.") for each in places):
                continue  # what is in it is no good, and was told
            message = "this is empty; give at least one"
        if found["type"] == "contradiction":
            place, message = found["ctx"]["place"], found["ctx"]["complaint"]
        place = as_written(place, written_at)
        sentences.append(f"{place}{position(place)}: {message}" if place else message)
    return "; ".join(dict.fromkeys(sentences))  # all moves of a series have the same mistake


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def as_written(place: str, written_at: Sequence[str]) -> str:
    """Return the place in the file: a move of a series stands where the series does."""
    part, _, rest = place.partition(".")
    number, _, field = rest.partition(".")
    if part != "moves" or not number.isdigit() or int(number) >= len(written_at):
        return place
    return f"{written_at[int(number)]}.{field}".rstrip(".")
