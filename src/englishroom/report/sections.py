"""The sections that say how good a program is: key figures, table, frontiers, categories, stories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from englishroom.evaluate.metrics import METRICS
from englishroom.number import NONE, between, bits, count, number, positive, share, short, signed, usable
from englishroom.report import frontier
from englishroom.report.markup import Content, Markup, grid, tag

Facts = Mapping[str, Any]
PROTOCOLS: Mapping[str, str] = MappingProxyType(
    {
        "alone": "one dictionary at a time",
        "clean": "all at once, on clean inputs",
        "running": "all at once, errors propagating",
    }
)


FIRED = (
    "Rules that fire at a position, on average; of a featured program, the features that its dictionaries let through. "
    "Models and n-grams have no rules."
)
USED = (
    "Table entries that carry something at a position, on average: the less, the less there is to read. Models and "
    "n-grams have no entries of features."
)


def missing(*lines: str) -> Markup:
    """Say plainly what there is nothing to show of."""
    return tag("div", *(tag("p", line) for line in lines), class_="missing")


def rows_of(facts: Facts) -> list[Mapping[str, Any]]:
    """Return the rows of the fidelity table, none where there is none."""
    return list((facts.get("scores") or {}).get("rows", ()))


def own_and_target(facts: Facts) -> list[Mapping[str, Any] | None]:
    """Return the row of the program itself, and that of the target."""
    return [next((row for row in rows_of(facts) if row.get("role") == role), None) for role in ("talker", "target")]


def key_figures(facts: Facts) -> Markup:
    """Show the headline and the few numbers that stand beside it."""
    (own, target), trace = own_and_target(facts), facts.get("trace") or {}
    if own is None:
        return missing("This room holds no scores.json, so nothing can be said here of how good the program is.")
    cards = [_headline(own)]

    def card(value: str, what: str) -> None:
        if NONE not in value:
            cards.append(tag("div", tag("b", value), tag("span", what), class_="figure"))

    card(f"{number(own.get('kl_target_talker'))} nats", "KL(target‖program), a token")
    increase = between(own.get("ce_increase_interval"), signed)
    card(
        f"{number(own.get('ce_increase'), '+.3f')} nats",
        f"cross-entropy above the target's, a token{f' ({increase})' if increase else ''}",
    )
    card(share(own.get("top1_agreement")), "of positions: the same likeliest token")
    card(number((trace.get("rules_fired") or {}).get("mean"), ".0f"), "rules fire at a position, mean")
    reads = trace.get("reads_per_rule") or {}
    card(
        number(reads.get("median"), ".0f"),
        f"features a rule reads, median (95th percentile {number(reads.get('p95'), '.0f')})",
    )
    length = bits(own.get("description_bits"))
    if target and usable(own.get("description_bits")) and positive(target.get("description_bits")):
        ratio = own["description_bits"] / target["description_bits"]
        card(
            length,
            f"description; {ratio:.2f} times the target's weights under the same code "
            f"({bits(target['description_bits'])})",
        )
    else:
        card(length, "description")
    return tag("div", *cards, class_="figures")


def _headline(own: Mapping[str, Any]) -> Markup:
    recovered = own.get("training_compute_recovered")
    if recovered:
        meaning = (
            "training compute recovered: the share of the target's own training run after which it was as good on this "
            "text as the program is now, with its 95 % interval. At 100 % the program would be as good as its target."
        )
        return tag("div", tag("b", recovered), tag("span", meaning), class_="figure headline")
    why = (
        "training compute recovered: the share of the target's own training run after which it was as good as the "
        "program is now. It needs the target's validation curve on this very text, and there is none here."
    )
    return tag("div", tag("b", "not known"), tag("span", why), class_="figure headline")


def fidelity(facts: Facts) -> Markup:
    """Show the table of scores, intervals under their numbers."""
    rows, scores = rows_of(facts), facts.get("scores") or {}
    if not rows:
        return missing("There is no scores.json in this room. englishroom score measures a room beside its target.")
    text = scores["text"]
    notes = (scores.get("settings") or {}).get("notes", ())
    further = _scored(rows, "further")
    return tag(
        "div",
        tag(
            "p",
            f"On {short(text['name'])}: {count(text['documents'])} documents, {count(text.get('bytes'))} bytes, "
            f"blank lines {'kept' if text.get('blank_lines') == 'keep' else 'collapsed'}. Small "
            "figures are intervals that hold 95 % of resamplings of documents. KL and agreement are taken token by "
            "token against the target.",
        ),
        _scored(rows, "first"),
        tag("details", tag("summary", "More measures"), further) if further else None,
        *(tag("p", note, class_="note") for note in notes),
        _no_baselines(rows),
        _protocols((facts.get("fidelity") or {}).get("protocols", ())),
    )


def _scored(rows: Sequence[Mapping[str, Any]], where: str) -> Markup | None:
    """Lay out the metrics that stand somewhere in the report, leaving out what no talker has."""
    kept = [m for m in METRICS if m.report == where and any(m.cell(row)[0] != NONE for row in rows)]
    if not kept:
        return None
    kinds = ["" if row["role"] in ("target", "talker") else f" ({row['role']})" for row in rows]
    lines = [
        [row["talker"] + kind, *(_cell(*metric.cell(row)) for metric in kept)]
        for row, kind in zip(rows, kinds, strict=True)
    ]
    own = [at for at, row in enumerate(rows) if row["role"] == "talker"]
    return grid(["talker", *(metric.heading for metric in kept)], lines, wide=(0,), own=own)


def _protocols(protocols: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Show what dictionaries cost one at a time and together; only the last of these is the program that runs."""
    if not protocols:
        return None
    lines = [
        (
            PROTOCOLS[row["protocol"]] + (f" ({row['what']})" if row["protocol"] == "alone" else ""),
            number(row.get("kl_target_program_nats"), ".4f"),
            number(row.get("ce_increase_nats"), "+.4f"),
            share(row.get("top1_agreement")),
        )
        for row in protocols
    ]
    head = ["dictionaries in place of the model's own values", "KL, nats", "CE increase", "same top-1"]
    return tag("details", tag("summary", "What its dictionaries cost, one at a time and together"), grid(head, lines))


def _no_baselines(rows: Sequence[Mapping[str, Any]]) -> Markup | None:
    if any(row["role"] in ("n-gram", "quantised", "replaced") for row in rows):
        return None
    return tag("p", "n-grams and quantised targets do not stand in this table; see the frontiers.", class_="note")


def _cell(value: str, interval: str) -> Content:
    return (value, tag("br"), tag("small", interval)) if interval else value


def frontiers(facts: Facts) -> Markup:
    """Show both frontiers."""
    found = facts.get("frontier")
    if not found:
        return missing(
            "No frontier was measured for this room. englishroom frontier sweeps sparsity and precision, and "
            "englishroom report --frontier FILE shows what it found."
        )
    points, text = found["points"], found["text"]
    recovered = (
        "Less is better on both axes. Every point is a program or a model that can be opened; the quantised and pruned "
        "targets are the curve that a program of some length has to be compared with."
    )
    return tag(
        "div",
        tag("p", f"Measured on {short(text['name'])}, {count(text['documents'])} documents."),
        tag("h3", "Fidelity against length"),
        frontier.figure(points, frontier.LENGTH, recovered),
        tag("h3", "Fidelity against rules fired"),
        frontier.figure(points, frontier.FIRED, FIRED),
        tag("h3", "Fidelity against table entries used"),
        frontier.figure(points, frontier.ENTRIES, USED),
        tag("h3", "Training compute against length"),
        frontier.figure(
            points, frontier.RECOVERED, "More is better; known where the target's curve was measured on it."
        ),
        tag("details", tag("summary", f"All {len(points)} points"), frontier.table(points)),
    )


def categories(facts: Facts) -> Markup:
    """Show by category how much worse the program is, and the tokens on which it is worst."""
    rows = _category_rows(facts)
    compared = facts.get("compared")
    parts: list[Markup] = []
    if rows:
        lows, highs = zip(*map(_interval, rows), strict=True)
        low, top = min(0.0, *lows), max(highs)
        overall = next((row for row in rows if row["category"] == "all"), None)
        ranked = sorted((row for row in rows if row["category"] != "all"), key=lambda row: -row["ce_increase"])
        shown = ([overall] if overall else []) + ranked
        lines = [
            (
                *(row["category"], count(row["tokens"]), number(row.get("target_nats"))),
                *(number(row["ce_increase"], "+.3f"), _bar(row, low, top)),
            )
            for row in shown
        ]
        head = ["tokens that are …", "tokens", "target, nats", "program above it", "with its 95 % interval"]
        parts.append(grid(head, lines, own=(0,) if overall else ()))
    else:
        parts.append(missing("No categories were measured; give --report TEXT to measure them."))
    if compared:
        parts.append(
            tag(
                "p",
                f"The tokens below are from {short(compared['text'])}, the first {count(compared['documents'])} "
                "documents, one a document at most.",
                class_="note",
            )
        )
        parts += _worst("Tokens on which the program is much worse", compared["first_better"])
        parts += _worst("Tokens on which the program is much better", compared["second_better"])
    return tag("div", *parts)


def _category_rows(facts: Facts) -> list[dict[str, Any]]:
    found = (facts.get("scores") or {}).get("categories") or ()
    own, target = own_and_target(facts)
    if own is None:
        return []
    before = {row["category"]: row["nats_per_token"] for row in found if target and row["talker"] == target["talker"]}
    return [
        {**row, "target_nats": before.get(row["category"])}
        for row in found
        if row["talker"] == own["talker"] and usable(row.get("ce_increase"))
    ]


def _interval(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return between what numbers the increase lies, itself where nothing is known."""
    values = [row["ce_increase"], *(v for v in row.get("ce_increase_interval") or () if usable(v))]
    return min(values), max(values)


def _bar(row: Mapping[str, Any], low: float, top: float) -> Markup:
    def place(value: float) -> float:
        return 100 * (value - low) / (top - low or 1.0)

    zero, end = sorted((place(0.0), place(row["ce_increase"])))
    parts = [tag("i", style=f"left:{zero:.1f}%;width:{end - zero:.1f}%")]
    first, last = map(place, _interval(row))
    if last > first:
        parts.append(tag("u", style=f"left:{first:.1f}%;width:{last - first:.1f}%"))
    spread = between(row.get("ce_increase_interval"), signed)
    title = f"{row['category']}: {number(row['ce_increase'], '+.3f')} nats ({spread or 'no interval'})"
    return tag("span", *parts, class_="bar", title=title)


def _worst(title: str, tokens: Sequence[Mapping[str, Any]]) -> list[Markup]:
    if not tokens:
        return []
    lines = [
        (
            *("…" + row["before"][-60:].replace("\n", "⏎"), tag("code", row["token"])),
            *(number(value, ".2f") for value in row["nats"]),
            *(tag("code", word) for word in row["expected"]),
        )
        for row in tokens
    ]
    head = ["text before", "token", "target, nats", "program, nats", "target expects", "program expects"]
    return [tag("h3", title), grid(head, lines, left=(0, 1, 4, 5), wide=(0,))]


def stories(facts: Facts) -> Markup:
    """Show what target and program tell from the same beginnings with the same seeds."""
    compared = facts.get("compared")
    if not compared or not compared["stories"]:
        return missing("No stories were told: " + str(facts.get("not_compared") or "the target could not be opened."))
    parts = []
    for story in compared["stories"]:
        prompt, alike = story["prompt"], story["alike"]
        start = f"From “{prompt}”" if prompt else "From the start"
        sides = [
            tag(
                "div",
                tag("h4", name),
                tag("span", prompt, class_="soft"),
                tag("span", text[:alike], class_="alike"),
                text[alike:],
                class_="story",
            )
            for name, text in (("the target", story["first"]), ("the program", story["second"]))
        ]
        parts.append(tag("h3", f"{start}, seed {story['seed']}"))
        parts.append(tag("div", *sides, class_="pair"))
    return tag("div", tag("p", "What is alike at the beginning is underlined.", class_="note"), *parts)
