import re
from string import Formatter

import pytest
from running import ROOT

from monitoring.dashboard.catalogue import LANGUAGES, NOTHING, Words, preferred, words_in

DASHBOARD = ROOT / "monitoring" / "dashboard"


def test_all_languages_have_the_same_keys_and_placeholders() -> None:
    english = words_in("en").texts
    for language in LANGUAGES:
        texts = words_in(language).texts
        assert texts.keys() == english.keys()
        for key, text in texts.items():
            assert isinstance(text, str), key
            assert text.strip(), key
            assert {name for _, name, _, _ in Formatter().parse(text)} == {name for _, name, _, _ in Formatter().parse(english[key])}, key


def test_every_key_that_a_page_asks_for_is_in_the_catalogue_and_none_is_left_over() -> None:
    code = "\n".join(path.read_text() for path in DASHBOARD.rglob("*.py"))
    asked = set(re.findall(r"[\"']([a-z_]+\.\w+)[\"']", code))
    dynamic = set(re.findall(r"f[\"']([a-z_]+)\.\w*\{", code))  # a whole part of the catalogue
    keys = words_in("en").texts.keys()
    parts = {key.partition(".")[0] for key in keys}
    assert {key for key in asked if key.partition(".")[0] in parts} <= keys
    unused = {key for key in keys - asked if key.partition(".")[0] not in dynamic and not key.endswith(".title")}
    assert not unused


@pytest.mark.parametrize(
    ("language", "number", "share", "difference"),
    [("en", "1,234,567.5", "9.09%", "\N{MINUS SIGN}0.63 pp"), ("fr", "1\u202f234\u202f567,5", "9,09\u00a0%", "\N{MINUS SIGN}0,63\u00a0pt")],
)
def test_numbers_are_written_as_the_language_does(language: str, number: str, share: str, difference: str) -> None:
    words = Words(language)  # type: ignore[arg-type]
    assert words.number(1234567.5, 1) == number
    assert words.percent(1 / 11) == share
    assert words.points(-0.0063) == difference
    assert words.number(None) == words.percent(None) == words.time(None) == NOTHING


def test_times_are_utc() -> None:
    assert words_in("en").time("2026-01-31T13:00:00.5+01:00") == "2026-01-31 12:00:00 UTC"


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("fr", "fr"),
        ("fr-CA", "fr"),
        ("de,fr;q=0.4,en;q=0.2", "fr"),
        ("en;q=0.1,fr;q=0", "en"),
        ("*", "en"),
        ("frx", "en"),
        (";;,=" * 99, "en"),
    ],
)
def test_the_first_language_that_is_there_is_taken(accepted: str, language: str) -> None:
    assert preferred(accepted, "en") == language
