"""The words of the dashboard, in English and French, and how each language writes numbers."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

Language = Literal["en", "fr"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
FOLDER = Path(__file__).parent / "words"
NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


class Words:
    """The catalogue of one language: `words("score.title")` gives a text, with its placeholders filled."""

    def __init__(self, language: Language) -> None:
        self.language = language
        content: dict[str, Any] = yaml.safe_load((FOLDER / f"{language}.yaml").read_text())
        numbers: dict[str, str] = content["numbers"]
        self._thousands, self._decimal = numbers["thousands"], numbers["decimal"]
        self._percent, self._points = numbers["percent"], numbers["points"]
        self.texts: dict[str, str] = {
            f"{page}.{name}": text for page, texts in content.items() if page != "numbers" for name, text in texts.items()
        }

    def __call__(self, key: str, **values: object) -> str:
        """A text of the catalogue; KeyError if it has none."""
        return self.texts[key].format(**values)

    def get(self, key: str, default: str) -> str:
        """A text of the catalogue, or the default for what the catalogue cannot know, such as a code of the API."""
        return self.texts.get(key, default)

    def number(self, value: float | None, decimals: int = 0) -> str:
        """A number with its thousands apart; a dash for None."""
        if value is None:
            return NOTHING
        whole, _, rest = f"{value:,.{decimals}f}".partition(".")
        return whole.replace(",", self._thousands) + (self._decimal + rest if rest else "")

    def percent(self, share: float | None, decimals: int = 2) -> str:
        """A share as a percentage; a PD has two decimals."""
        return NOTHING if share is None else self._percent.format(self.number(100 * share, decimals))

    def signed(self, value: float, decimals: int = 2) -> str:
        """A number with its sign."""
        return ("+" if value >= 0 else MINUS) + self.number(abs(value), decimals)

    def points(self, difference: float, decimals: int = 2) -> str:
        """The difference of two shares in percentage points, with its sign."""
        return self._points.format(self.signed(100 * difference, decimals))

    def time(self, value: str | None) -> str:
        """A time of the API in UTC, to the second."""
        if not value:
            return NOTHING
        return f"{datetime.fromisoformat(value).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


@cache
def words_in(language: Language) -> Words:
    """The catalogue of a language."""
    return Words(language)


def preferred(accepted: str, default: Language) -> Language:
    """The first language of an Accept-Language header, or of a locale, that the dashboard has."""
    for tag in _by_weight(accepted):
        for language in LANGUAGES:
            if tag == language or tag.startswith(f"{language}-"):
                return language
    return default


def _by_weight(accepted: str) -> Iterable[str]:
    tags = []
    for place, part in enumerate(accepted.lower().split(",")[:20]):
        tag, _, weight = part.strip().partition(";")
        quality = re.fullmatch(r"\s*q=([01](?:\.\d{1,3})?)", weight)
        tags.append((-float(quality[1]) if quality else -1.0, place, tag.strip()))
    return (tag for quality, _, tag in sorted(tags) if quality < 0)
