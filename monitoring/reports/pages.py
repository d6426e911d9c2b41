"""HTML reports in one self-contained file."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

STYLE = "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}td,th{padding:.2em .6em;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}img{max-width:100%}"


def page(title: str, about: Mapping[str, Any], content: str) -> str:
    """A page: its heading, a line for each fact about it, and content in HTML."""
    facts = "".join(f"<p>{html.escape(f'{name}: {value}')}</p>" for name, value in about.items())
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{facts}{content}</html>\n'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text cells."""
    lines = [f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in heads)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def image(figure: Any, text: str) -> str:
    """A Matplotlib figure as a PNG inside the page; `text` describes it for readers who cannot see it."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=90, metadata={"Software": None})
    return f'<p><img alt="{html.escape(text)}" src="data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"></p>'
