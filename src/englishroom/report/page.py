"""One page of all facts: a file that opens by itself, loads nothing and runs nothing."""

from __future__ import annotations

from englishroom.number import count, short
from englishroom.report import inside, sections
from englishroom.report.markup import Markup, tag
from englishroom.report.sections import Facts
from englishroom.report.style import PAGE, PLOT

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What the page may load: nothing. Text that should get through as markup could still fetch and run nothing."""
SECTIONS = (
    ("stories", "Two stories side by side", sections.stories),
    ("fidelity", "How much of the model it holds", sections.fidelity),
    ("frontiers", "What it costs", sections.frontiers),
    ("worse", "Where it got worse", sections.categories),
    ("readability", "How readable it is", inside.readability),
    ("rules", "The rules that matter most", inside.rules),
    ("sentences", "Sentences, followed through", inside.sentences),
    ("memory", "Memory and algorithm", inside.memory),
    ("making", "How it was made", inside.making),
    ("repeat", "How to make it again", inside.repeating),
)
"""Anchor, title and content of every section, in the order in which they are read."""


def page(facts: Facts) -> str:
    """Write the report of a room.

    Args:
        facts: what ``report.json`` holds.
    """
    target = facts["room"]["target"]["name"]
    title = f"{target}, decompiled"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="referrer", content="no-referrer"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(PAGE + PLOT)),
    )
    links = [tag("a", name, " ", href=f"#{anchor}") for anchor, name, _ in SECTIONS]
    body = tag(
        "body",
        tag(
            "header",
            tag(
                "p", f"englishroom {facts['englishroom']} · report on the room {facts['room']['name']}", class_="kicker"
            ),
            tag("h1", title),
            tag("p", _lead(facts), class_="lead"),
            *(
                tag("p", f"Warning: {line}.", class_="warning")
                for line in facts["room"]["evidence"].get("warnings", [])
            ),
            sections.key_figures(facts),
            tag("nav", *links),
        ),
        tag("main", *(tag("section", tag("h2", name), make(facts), id=anchor) for anchor, name, make in SECTIONS)),
        tag("footer", tag("p", "The same facts stand in report.json beside this file.", class_="note")),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _lead(facts: Facts) -> str:
    room, program = facts["room"], facts["program"]
    target = room["target"]
    kinds = {
        "exact": "its weights lifted one to one into blocks",
        "featured": "dictionaries of features in place of its layers",
        "sparse": "features that read features through short rules, with no residual stream and no dense matrix",
        "explained": "conditions over the text in the place of its features",
    }
    rules = f", {count(program['rules'])} rules among them" if program["rules"] else ""
    text = (facts.get("scores") or {}).get("text") or {}
    held = f" What follows was measured on {short(text['name'])}." if text else ""
    return (
        f"A transformer of {count(target.get('parameters'))} parameters, written down as a program that runs by "
        f"itself: {kinds.get(room['level'], room['level'])} ({program['blocks']} blocks{rules}).{held}"
    )
