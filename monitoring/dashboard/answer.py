"""One decision as people read it: the PD on its scale, the decision in words, the reasons, and a letter."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from monitoring.dashboard import style
from monitoring.dashboard.catalogue import NOTHING, Words
from monitoring.dashboard.style import Bar

SMALL = 0.02  # points; smaller ones are added up in one row
Answer = Mapping[str, Any]


def verdict(words: Words, answer: Answer) -> str:
    """The decision in words, the PD, the risk level, and the scale."""
    decision = words.get(f"decision.{answer['decision']}", answer["decision"])
    interval = answer.get("interval")
    pd = words("answer.pd_short", pd=words.percent(answer["probability"]))
    head = (
        f'<div class="cs-verdict" data-decision="{escape(answer["decision"])}"><strong>{escape(decision)}</strong>'
        f'<span class="cs-pd" data-pd="{answer["probability"]!r}">{escape(pd)}</span>{style.level(words, answer["risk_level"])}</div>'
    )
    lines = [
        head,
        f"<p>{escape(_sentence(words, answer))}</p>",
        style.scale(words, answer["probability"], answer["threshold"], [interval["low"], interval["high"]] if interval else None),
    ]
    if interval:
        values = {
            "low": words.percent(interval["low"]),
            "high": words.percent(interval["high"]),
            "level": words.percent(interval["level"], 0),
        }
        lines.append(f'<p class="cs-quiet">{escape(words("answer.interval", **values))}</p>')
    if answer.get("borderline"):
        lines.append(f"<p>{escape(words('answer.borderline'))}</p>")
    return "".join(lines)


def reasons(items: Sequence[Answer]) -> str:
    """Reasons as a numbered list, the most important first."""
    return '<ol class="cs-reasons">' + "".join(f"<li>{escape(item['text'])}</li>" for item in items) + "</ol>"


def waterfall(words: Words, explanation: Answer) -> str:
    """From the PD of the baseline to this PD, concept by concept; small contributions are added up."""
    shown = sorted((item for item in explanation["concepts"] if abs(item["points"]) >= SMALL), key=lambda item: -abs(item["points"]))
    small = [item for item in explanation["concepts"] if 0 < abs(item["points"]) < SMALL]
    steps = [(words.get(f"concept.{item['code']}", item["code"]), float(item["points"])) for item in shown]
    if small:
        steps.append((words("answer.others", count=len(small)), math.fsum(item["points"] for item in small)))
    base = float(explanation["base"])
    rows, at = [Bar(words.get(f"answer.baseline_{explanation['baseline']}", explanation["baseline"]), 0, 0, "", pd_of(words, base))], 0.0
    for name, points in steps:
        rows.append(
            Bar(name, at, at + points, words.signed(points), pd_of(words, base + at + points), "against" if points > 0 else "favour")
        )
        at += points
    heads = (words("answer.concept"), words("answer.points"), words("answer.pd_after"))
    return style.bars(heads, rows, words("answer.waterfall"))


def pd_of(words: Words, log_odds: float) -> str:
    """The PD that log-odds stand for, as text."""
    return words.percent(1 / (1 + math.exp(-log_odds)))


def warnings(words: Words, answer: Answer) -> list[str]:
    """The warnings of an answer as Markdown, each with what it means."""
    lines = []
    for item in answer.get("warnings", ()):
        meaning, pointer = words.get(f"warning.{item['code']}", item["code"]), item.get("pointer")
        lines.append(f"**{meaning}** {item['detail']}" + (f" (`{pointer}`)" if pointer else ""))
    return lines


def letter(words: Words, answer: Answer, given: Sequence[Answer]) -> str:
    """The letter of reasons to an applicant, as text.

    Parameters
    ----------
    given : the reasons, most important first.
    """
    lines = [
        words("letter.subject"),
        "",
        words(
            "letter.reference",
            id=answer["prediction_id"],
            client=answer["client_id"] or NOTHING,
            date=str(answer.get("timestamp") or answer.get("time"))[:10],
        ),
        "",
        words(f"letter.{answer['decision']}"),
    ]
    if given:
        lines += ["", words("letter.reasons"), "", *(f"{place}. {item['text']}" for place, item in enumerate(given, 1))]
    if change := answer.get("smallest_change"):
        lines += ["", change["text"]]
    lines += ["", words("letter.rights"), "", words("letter.footer", version=answer["model_version"])]
    return "\n".join(lines) + "\n"


def _sentence(words: Words, answer: Answer) -> str:
    """Why the decision is as it is, in one sentence."""
    declined, above = answer["decision"] == "DECLINE", answer["probability"] >= answer["threshold"]
    key = "answer.declined" if declined and above else "answer.declined_thin" if declined else "answer.approved"
    return words(
        key,
        pd=words.percent(answer["probability"]),
        threshold=words.percent(answer["threshold"]),
        difference=words.points(answer["probability"] - answer["threshold"]),
    )
