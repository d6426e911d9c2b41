"""One visual language: the style sheet, and what the pages show as HTML.

Colours are those of the theme in both of its modes. Risk levels go from blue to orange and always carry their word.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from monitoring.dashboard.catalogue import Words
from monitoring.dashboard.sign_in.roles import Person

ICON = str(Path(__file__).parent / "sign_in" / "icon.svg")
LEVELS = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
COLOURS = {  # light, dark
    "LOW": ("#CFE3F5", "#23405C"),
    "MEDIUM": ("#8FBBE3", "#4C86BD"),
    "HIGH": ("#F2B680", "#C47A34"),
    "CRITICAL": ("#B4531B", "#F0A36B"),
    "against": ("#B4531B", "#F0A36B"),
    "favour": ("#1F5FA8", "#6FB1F0"),
}
_SHADES = "".join(f".cs-{name} {{ --shade: light-dark({light}, {dark}) }}" for name, (light, dark) in COLOURS.items())
_SHEET = (Path(__file__).parent / "style.css").read_text()


def sheet(words: Words) -> str:
    """The style sheet, with the words that Streamlit would show in English only."""
    return f"<style>{_SHADES}\n.stApp {{ --choose-file: '{words('app.choose_file')}' }}\n{_SHEET}</style>"


class Tile(NamedTuple):
    """One figure: its name, its value as text, and a line beneath."""

    name: str
    value: str
    note: str = ""


class Bar(NamedTuple):
    """A row of a table with a bar: from one value to another, on the axis that all rows share."""

    name: str
    start: float
    end: float
    text: str
    more: str = ""
    shade: str = "favour"


def person(words: Words, who: Person) -> str:
    """Who is signed in."""
    return f'<span class="cs-person"><b>{escape(who.name)}</b> · {escape(words(f"role.{who.role}"))}</span>'


def tiles(figures: Iterable[Tile]) -> str:
    """Figures side by side; as many in a row as fit."""
    return '<dl class="cs-tiles">' + "".join(_tile(figure) for figure in figures) + "</dl>"


def level(words: Words, risk_level: str) -> str:
    """A risk level, in its colour and in words."""
    return f'<span class="cs-level cs-{escape(risk_level)}">{escape(words.get(f"level.{risk_level}", risk_level))}</span>'


def bars(heads: Sequence[str], rows: Sequence[Bar], label: str) -> str:
    """A table whose last column shows each row's bar, so that the chart and its table are one.

    Parameters
    ----------
    heads : of the name, of the text, and, if the rows have more, of that.
    label : what the table shows, for people who do not see it.
    """
    low = min([0.0, *(min(row.start, row.end) for row in rows)])
    high = max([0.0, *(max(row.start, row.end) for row in rows)])
    width = (high - low) or 1.0
    body = "".join(_bar_row(row, low, width, len(heads)) for row in rows)
    head = "".join(f'<th scope="col"{" class=num" if place else ""}>{escape(text)}</th>' for place, text in enumerate(heads))
    head += '<td class="bar" aria-hidden="true"></td>'
    return _framed(head, body, label)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], label: str, *, numbers: Sequence[int] = ()) -> str:
    """A plain table.

    Parameters
    ----------
    numbers : columns that hold numbers.
    """

    def cell(place: int, text: str, tag: str) -> str:
        kind = ' class="num"' if place in numbers else ""
        scope = ' scope="col"' if tag == "th" else ""
        return f"<{tag}{kind}{scope}>{escape(text)}</{tag}>"

    head = "".join(cell(place, text, "th") for place, text in enumerate(heads))
    body = "".join("<tr>" + "".join(cell(place, text, "td") for place, text in enumerate(row)) + "</tr>" for row in rows)
    return _framed(head, body, label)


def scale(words: Words, pd: float, threshold: float, interval: Sequence[float] | None = None) -> str:
    """The PD on a scale of the four bands, with the threshold and the interval. The scale grows with the root of the PD."""
    top = min(1.0, max(4 * threshold, 1.15 * pd, 1.1 * max(interval or [0.0])))

    def at(share: float) -> float:
        return 100 * math.sqrt(min(max(share, 0.0), top) / top)

    edges = [0.0, threshold / 2, threshold, 2 * threshold, top]
    bands = "".join(
        f'<span class="cs-{name}" style="width:{at(edges[place + 1]) - at(edges[place]):.2f}%"></span>' for place, name in enumerate(LEVELS)
    )
    where, cut = at(pd), at(threshold)
    marks = f'<i style="left:{where:.2f}%"></i><i class="cs-cut" style="left:{cut:.2f}%"></i>'
    if interval:
        marks += f'<i class="cs-range" style="left:{at(interval[0]):.2f}%;width:{at(interval[1]) - at(interval[0]):.2f}%"></i>'
    texts = _mark(where, "up", words("answer.pd_short", pd=words.percent(pd)))
    texts += _mark(cut, "down", words("answer.threshold_short", threshold=words.percent(threshold)))
    names = "".join(level(words, name) for name in LEVELS)
    label = words("answer.scale", pd=words.percent(pd), threshold=words.percent(threshold))
    return f'<div class="cs-scale" role="img" aria-label="{escape(label)}">{bands}{marks}{texts}</div><div class="cs-bands">{names}</div>'


def _framed(head: str, body: str, label: str) -> str:
    """A table of cells and rows; a narrow page scrolls it sideways."""
    return f'<div class="cs-wide"><table class="cs-bars" aria-label="{escape(label)}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _mark(where: float, side: str, text: str) -> str:
    """A text beside a mark, moved inwards at the ends so that nothing is cut."""
    shift = min(max(where, 0.0), 100.0)
    return f'<em class="{side}" style="left:{where:.2f}%;transform:translateX(-{shift:.0f}%)">{escape(text)}</em>'


def _tile(figure: Tile) -> str:
    small = ' class="small"' if len(figure.value) > 14 else ""
    note = f"<p>{escape(figure.note)}</p>" if figure.note else ""
    return f'<div class="cs-tile"><dt>{escape(figure.name)}</dt><dd{small}>{escape(figure.value)}{note}</dd></div>'


def _bar_row(row: Bar, low: float, width: float, columns: int) -> str:
    left = 100 * (min(row.start, row.end) - low) / width
    length = 100 * abs(row.end - row.start) / width
    zero = f"{100 * abs(low) / width:.2f}%"
    bar = f'<div style="--zero:{zero}"><span class="cs-{row.shade}" style="left:{left:.2f}%;width:{length:.2f}%"></span></div>'
    numbers = "".join(f'<td class="num">{escape(text)}</td>' for text in (row.text, row.more)[: columns - 1])
    return f'<tr><td>{escape(row.name)}</td>{numbers}<td class="bar" aria-hidden="true">{bar}</td></tr>'
