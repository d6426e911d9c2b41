import pytest
import yaml

from serving.reasons.words import Words, parsed, placeholders, rendered, required
from training.explaining.reason_map import WORDS


def words(language: str) -> Words:
    return Words(yaml.safe_load((WORDS / f"{language}.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("value", "unit", "english", "french"),
    [
        (450000.0, "currency", "450,000", "450\u202f000"),
        (-1200.4, "currency", "-1,200", "-1\u202f200"),
        (0.456, "share", "46%", "46\u00a0%"),
        (1.254, "ratio", "1.25", "1,25"),
        (3.0, "count", "3", "3"),
        (2.5, "count", "2.50", "2,50"),
        (36.99, "years", "36 years", "36 ans"),
        (2.0, "years", "2 years", "2 ans"),
        (1.999, "years", "23 months", "23 mois"),
        (-4000.0, "days", "10 years", "10 ans"),
        (-61.0, "days", "2 months", "2 mois"),
        (-60.0, "days", "60 days", "60 jours"),
        (-1.0, "days", "1 day", "1 jour"),
        (0.0, "days", "0 days", "0 jour"),
        (1.0, "code", "two", "two"),
        (-1.0, "code", None, None),
        (2.0, "code", None, None),
    ],
)
def test_a_value_is_written_as_its_language_does(value: float, unit: str, english: str | None, french: str | None) -> None:
    assert words("en").value(value, unit, ("one", "two")) == english
    assert words("fr").value(value, unit, ("one", "two")) == french


def test_a_part_in_brackets_is_left_out_where_a_value_is_not_known() -> None:
    sentence = parsed("You owe[ {debt}][, with {loans} loans of {debt}].")
    assert rendered(sentence, {"debt": "5", "loans": "2"}.get) == "You owe 5, with 2 loans of 5."
    assert rendered(sentence, {"debt": "5"}.get) == "You owe 5."
    assert rendered(sentence, {"loans": "2"}.get) == "You owe."
    assert placeholders(sentence) == {"debt", "loans"}
    assert required(parsed("You owe {debt}[ now].")) == {"debt"}


@pytest.mark.parametrize("text", ["You [owe", "You owe]", "[You [owe]]", "You owe {", "You owe }"])
def test_unbalanced_marks_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"balanced|Single|expected"):
        parsed(text)
