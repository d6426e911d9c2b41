"""The form of an application, made from what GET /schema says of its fields."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import streamlit as st

from monitoring.dashboard.catalogue import Words

DAYS_PER_YEAR = 365.25
YES_NO = (1, 0)


class Field(NamedTuple):
    """A field of the application.

    Attributes
    ----------
    name : as the API knows it.
    text : what it is called.
    type : number, integer or category.
    unit : currency, days, count, ...; empty for a category.
    low, high : the plausible range; None for a category.
    group : under which head the form shows it.
    is_main : whether the form shows it at once.
    is_time_ago : whether it counts days back from the application, which people read as years.
    """

    name: str
    text: str
    type: str
    unit: str
    low: float | None
    high: float | None
    categories: tuple[str, ...]
    group: str
    is_main: bool
    is_time_ago: bool = False

    @property
    def is_flag(self) -> bool:
        """Whether it is yes or no."""
        return self.unit == "0/1"

    def shown(self, value: float) -> float:
        """A value as the form shows it: days back as years, to the thousandth, so that the days come out the same."""
        return round(-value / DAYS_PER_YEAR, 3) if self.is_time_ago else value

    def sent(self, shown: float | str | None) -> float | str | None:
        """A value of the form as the API takes it."""
        if shown is None or isinstance(shown, str):
            return shown
        if self.is_time_ago:
            return -round(shown * DAYS_PER_YEAR)
        return int(shown) if self.type == "integer" else float(shown)


def fields_of(schema: Mapping[str, Any] | None) -> list[Field]:
    """The fields of the application, as GET /schema lists them; none without a schema."""
    if schema is None:
        return []
    groups = {group["name"]: group["label"] for group in schema["groups"]}
    return [
        Field(
            item["name"],
            item["label"],
            item["type"],
            item["unit"] or "",
            item["min"],
            item["max"],
            tuple(item["categories"]),
            groups[item["group"]],
            item["main"],
            item["display"] == "years_ago",
        )
        for item in schema["tables"]["application"]["fields"]
    ]


def ask(words: Words, fields: Sequence[Field]) -> dict[str, Any]:
    """Show the form; returns the fields that were filled, as the API takes them."""
    values: dict[str, Any] = {}
    main = [field for field in fields if field.is_main]
    st.caption(words("form.about"))
    _group(words, main, values)
    groups: dict[str, list[Field]] = defaultdict(list)
    for field in fields:
        if not field.is_main:
            groups[field.group].append(field)
    for name, members in groups.items():
        with st.expander(words("form.group", name=name, count=len(members))):
            _group(words, members, values)
    return values


def label(words: Words, field: Field) -> str:
    """What a field is called, with its unit."""
    unit = words.get(f"unit.{'years' if field.is_time_ago else field.unit}", "")
    return f"{field.text} ({unit})" if unit else field.text


def help_of(words: Words, field: Field) -> str:
    """The name of a field, and its plausible range."""
    if field.low is None or field.high is None or field.is_flag:
        return f"`{field.name}`"
    low, high = sorted((field.shown(field.low), field.shown(field.high)))
    decimals = 1 if field.is_time_ago else 0 if high >= 100 or field.type == "integer" else 2
    return words("form.range", name=field.name, low=words.number(low, decimals), high=words.number(high, decimals))


def fill(application: Mapping[str, Any], fields: Sequence[Field]) -> None:
    """Put the values of an application into the form, before it is shown."""
    for field in fields:
        value = application.get(field.name)
        st.session_state[_key(field)] = field.shown(value) if isinstance(value, int | float) and not field.is_flag else value


def _group(words: Words, fields: Sequence[Field], values: dict[str, Any]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        for field in fields:
            sent = field.sent(_asked(words, field))
            if sent is not None:
                values[field.name] = sent


def _asked(words: Words, field: Field) -> float | str | None:
    options: dict[str, Any] = {"key": _key(field), "help": help_of(words, field), "width": 250, "persist_state": "session"}
    name, unknown = label(words, field), words("form.unknown")
    value: float | str | None
    if field.type == "category":
        value = st.selectbox(name, field.categories, index=None, placeholder=unknown, **options)
    elif field.is_flag:
        value = st.selectbox(
            name,
            YES_NO,
            index=None,
            placeholder=unknown,
            format_func=lambda flag: words("form.yes" if flag else "form.no"),
            **options,
        )
    elif field.type == "integer" and not field.is_time_ago:
        value = st.number_input(name, value=None, step=1, placeholder=unknown, **options)
    else:
        step = 1.0 if field.is_time_ago else None
        value = st.number_input(name, value=None, step=step, placeholder=unknown, format="%.12g", **options)
    return value


def _key(field: Field) -> str:
    return f"form_{field.name}"
