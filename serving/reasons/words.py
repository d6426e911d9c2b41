"""The words of reasons in one language: sentences with the applicant's own values."""

import re
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

import numpy as np

DAYS = {"days": 1.0, "months": 30.4375, "years": 365.25}  # of each unit of time
FORMS = ("adverse", "unknown", "favourable")  # the sentences of each reason
_PART = re.compile(r"\[([^\[\]]*)\]")

Part = tuple[tuple[str, str | None], ...]  # literal text, each with the placeholder after it
Sentence = tuple[tuple[bool, Part], ...]  # parts, each with whether it may be left out


class Words:
    """The catalogue of one language, as a bundle holds it.

    Parameters
    ----------
    catalogue : the content of a file of configs/words.

    Raises
    ------
    KeyError, TypeError, ValueError
        The catalogue lacks something, or a sentence has unbalanced braces.
    """

    def __init__(self, catalogue: Mapping[str, Any]) -> None:
        self.language = str(catalogue["language"])
        self.sentences = {code: {form: parsed(forms[form]) for form in FORMS} for code, forms in catalogue["reasons"].items()}
        self.thin = str(catalogue["thin"])
        self.change, self.join = parsed(catalogue["change"]["sentence"]), str(catalogue["change"]["join"])
        self.offers = {field: parsed(text) for field, text in catalogue["change"]["offers"].items()}
        numbers = catalogue["numbers"]
        self._thousands, self._decimal, self._percent = numbers["thousands"], numbers["decimal"], numbers["percent"]
        self._singular_from, self._singular_to = numbers["singular"]
        self._units = {unit: (one, many) for unit, (one, many) in catalogue["units"].items()}

    def value(self, value: float, unit: str, categories: tuple[str, ...] = ()) -> str | None:
        """A known value of a feature with its unit; None for a category that the model does not know."""
        if unit == "code":
            return categories[int(value)] if 0 <= value < len(categories) else None
        if unit in DAYS:
            return self._duration(abs(value) * DAYS[unit])
        if unit == "share":
            return str(self._percent.format(self._number(100 * value, 0)))
        return self._number(value, 0 if unit == "currency" or value == np.floor(value) else 2)

    def _duration(self, days: float) -> str:
        """A time in full years, from two years on; in full months, from two months on; else in days."""
        unit = next((unit for unit in ("years", "months") if days >= 2 * DAYS[unit]), "days")
        count = np.floor(days / DAYS[unit])
        return f"{self._number(count, 0)} {self._units[unit][not self._singular_from <= count <= self._singular_to]}"

    def _number(self, value: float, decimals: int) -> str:
        whole, _, rest = f"{value:,.{decimals}f}".partition(".")
        return whole.replace(",", self._thousands) + (self._decimal + rest if rest else "")


def parsed(text: str) -> Sentence:
    """The parts of a sentence: those in brackets may be left out, those in braces are placeholders.

    Raises
    ------
    ValueError
        Braces or brackets are not balanced.
    """
    pieces = _PART.split(text)
    if any("[" in piece or "]" in piece for piece in pieces):
        raise ValueError(f"brackets are not balanced in {text!r}")
    return tuple(
        (bool(number % 2), tuple((literal, name) for literal, name, _, _ in Formatter().parse(piece)))
        for number, piece in enumerate(pieces)
    )


def placeholders(sentence: Sentence) -> set[str]:
    """The names of the placeholders of a sentence."""
    return {name for _, part in sentence for _, name in part if name is not None}


def required(sentence: Sentence) -> set[str]:
    """The placeholders outside brackets, whose values must be known."""
    return {name for optional, part in sentence if not optional for _, name in part if name is not None}


def rendered(sentence: Sentence, value: Callable[[str], str | None]) -> str:
    """The sentence with its values.

    Parameters
    ----------
    value : gives the text of a placeholder, or None if it is not known. Then the part in brackets is left out.
    """
    found = []
    for _, part in sentence:
        values = [None if name is None else value(name) for _, name in part]
        if all(name is None or text is not None for (_, name), text in zip(part, values, strict=True)):
            found.append("".join(literal + (text or "") for (literal, _), text in zip(part, values, strict=True)))
    return "".join(found)
