"""The sections that say what is in a program and where it comes from: from how readable it is to how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from englishroom.evaluate.readability_metrics import known
from englishroom.number import count, number, positive, share, usable
from englishroom.report.markup import Content, Markup, grid, tag
from englishroom.report.sections import Facts, missing

RULES_SHOWN = 15
HOTTEST_NATS = 4.0
"""Loss beside the target's at which a token is coloured most."""


def readability(facts: Facts) -> Markup:
    """Show every measure of how readable the program is, beside its null, and what it means."""
    trace = facts.get("trace") or {}
    counted = {
        "entries_used_mean": (trace.get("edges_used") or {}).get("mean"),
        "reads_per_rule_most": (trace.get("reads_per_rule") or {}).get("most"),
    }
    found = counted | facts["room"]["evidence"]
    lines = [(metric.name, metric.value(found), metric.null(found), metric.meaning) for metric in known(found)]
    if not lines:
        return missing("How readable this program is was not measured.")
    note = (
        "Null: the same of a program that knows nothing, with votes permuted among voters or numbers shuffled within "
        "tables; of explanations, the larger one of activations shuffled or shifted against the text. "
        "A measure is worth something beside its null only. What is not in the table was not measured."
    )
    return tag("div", grid(["measure", "value", "null", "meaning"], lines, left=(0, 3), wide=(3,)), tag("p", note))


def rules(facts: Facts) -> Markup:
    """List the rules that matter most, with what they were named from."""
    found = facts.get("rules")
    if not found:
        return missing(
            "The rules of this room have no names: there is no labels.json in it (englishroom label makes one). The "
            "sentences below call them by their numbers."
        )
    about = found["about"]
    lines = [
        (
            (tag("code", row["label"]), tag("br"), tag("small", f"{row['variable']}[{row['index']}] {row['group']}")),
            *(number(row["importance"], ".4g"), share(row["frequency"])),
            *(_words(row[name]) for name in ("tokens", "contexts", "votes")),
        )
        for row in found["rows"]
    ]
    head = ["rule", "importance", "on", "on these tokens", "excited by", "votes for"]
    note = "; ".join(f"{name}: {value}" for name, value in about.items())
    parts = (lines[:RULES_SHOWN], lines[RULES_SHOWN:])
    first, others = (grid(head, part, left=(0, 3, 4, 5), wide=(0,)) for part in parts)
    return tag(
        "div",
        tag("p", f"The {len(lines)} most important of {count(found['of'])}, with the evidence of their names."),
        first,
        tag("details", tag("summary", "The others of them"), others) if len(lines) > RULES_SHOWN else None,
        tag("p", note, class_="note") if note else None,
    )


def _words(pairs: Sequence[Sequence[Any]]) -> Markup:
    words = [tag("span", tag("code", word), " ", tag("small", number(value, ".2g"))) for word, value in pairs]
    return tag("div", *words, class_="chips")


def sentences(facts: Facts) -> Markup:
    """Show sentences token by token: what it cost, what fired, and what spoke for and against it."""
    found = facts.get("sentences")
    if not found:
        return missing("No sentence was followed: " + str(facts.get("not_followed") or "only sparse programs can be."))
    parts: list[Any] = [
        tag(
            "p",
            "Tokens are shaded by what the program loses on them beside the target. The log-probability of a token is "
            "the sum of a baseline (what the constants alone would say) and of the shares of the features that vote.",
        )
    ]
    for sentence in found:
        shown = [_token(token) for token in sentence["tokens"]]
        lines = [_token_row(token) for token in sentence["tokens"] if token["parts"]]
        head = ["token", "target, nats", "program, nats", "rules", "baseline", "largest shares, in nats"]
        parts.append(tag("p", *shown, class_="sentence"))
        parts.append(tag("details", tag("summary", "token by token"), grid(head, lines, left=(0, 5))))
    return tag("div", *parts)


def _token(token: Mapping[str, Any]) -> Markup:
    if not usable(token.get("program_nats")):
        return tag("span", token["token"], class_="token")
    lost = token["program_nats"] - (token["target_nats"] if usable(token["target_nats"]) else 0.0)
    heat = min(max(lost / HOTTEST_NATS, 0.0), 1.0) * 0.75
    title = (
        f"program {number(token['program_nats'], '.2f')} nats, target {number(token['target_nats'], '.2f')}; "
        f"program expected {token['expected']}"
    )
    return tag("span", token["token"], class_="token", style=f"--heat:{heat:.2f}", title=title)


def _token_row(token: Mapping[str, Any]) -> tuple[Content, ...]:
    parts = [
        tag(
            "span",
            tag("code", part["name"]),
            " ",
            tag("small", number(part["nats"], "+.2f"), class_="up" if positive(part["nats"]) else "down"),
        )
        for part in token["parts"]
    ]
    nats = [number(token[name], ".2f") for name in ("target_nats", "program_nats", "baseline")]
    chips = tag("div", *parts, class_="chips")
    return tag("code", token["token"]), *nats[:2], count(token["rules_fired"]), nats[2], chips


def memory(facts: Facts) -> Markup:
    """Show what only stores, apart from what computes."""
    found = facts.get("memory")
    if not found:
        return missing("Memory and algorithm were not told apart for this room: there is no memory.json in it.")
    return _nested(found)


def _nested(value: Any) -> Markup:
    """Show plain data as lists of names and values, and lists of alike records as tables."""
    if isinstance(value, Mapping):
        pairs = [(tag("dt", name.replace("_", " ")), tag("dd", _nested(item))) for name, item in value.items()]
        return tag("dl", pairs)
    if isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
        names = list(dict.fromkeys(name for item in value for name in item))
        rows = [[_nested(item.get(name)) for name in names] for item in value]
        return grid([name.replace("_", " ") for name in names], rows, left=range(len(names)))
    if isinstance(value, list | tuple):
        return tag("span", ", ".join(str(item) for item in value))
    if isinstance(value, float):
        return tag("span", number(value, ",.4g"))
    return tag("span", number(value, ",") if usable(value) else "–" if value is None else str(value))


def making(facts: Facts) -> Markup:
    """Say what was decompiled, and how."""
    room, program = facts["room"], facts["program"]
    target = room["target"]
    spec = target.get("spec") or {}
    shape = ", ".join(
        f"{name} {spec[name]}"
        for name in ("n_layers", "d_model", "n_heads", "d_mlp", "d_vocab", "n_ctx")
        if name in spec
    )
    what = {
        "target": f"{target['name']} ({spec.get('family', 'unknown family')})",
        "its parameters": count(target.get("parameters")),
        "its shape": shape or "unknown",
        "its sha256": target.get("sha256", "unknown"),
        "level": room["level"],
        "preset": room.get("preset") or "none",
        "seed": room["seed"],
        "program": f"{program['blocks']} blocks, {program['tables']} tables, {count(program['entries'])} numbers"
        + (f", {count(program['rules'])} rules" if program["rules"] else ""),
        "manifest": f"sha256 {room['sha256']}",
    }
    parts: list[Any] = [tag("dl", [(tag("dt", name), tag("dd", value)) for name, value in what.items()])]
    texts = room["evidence"].get("texts") or {}
    if texts:
        head = ["used to", "text", "documents", "white space around line ends", "sha256"]
        parts += [tag("h3", "Texts"), grid(head, _texts(texts), left=(0, 1), wide=(1,))]
    head = ["pass", "options", "rewrites", "seconds", "cost, nats"]
    parts += [tag("h3", "Passes"), grid(head, map(_record, room["records"]), left=(0, 1), wide=(1,))]
    settings = {name: value for name, value in room["config"].items() if value not in (None, [], ())}
    measured = {name: value for name, value in room["evidence"].items() if name not in ("texts", "warnings")}
    files = [(name, count(file["bytes"]), tag("code", file["sha256"])) for name, file in room["files"].items()]
    for title, shown in (
        ("All settings", _nested(settings)),
        ("All that the manifest says was measured", _nested(measured)),
        ("Files of the room", grid(["file", "bytes", "sha256"], files)),
    ):
        parts.append(tag("details", tag("summary", title), shown))
    versions = ", ".join(f"{name} {version}" for name, version in room["versions"].items())
    parts.append(tag("p", f"Made with {versions}.", class_="note"))
    return tag("div", *parts)


_READ = {"collapse": "one newline", "keep": "as it was"}
"""What became of white space around line ends, blank lines included; it was always collapsed in earlier versions."""


def _texts(texts: Mapping[str, Any]) -> Iterator[tuple[Content, ...]]:
    for use, text in texts.items():
        read = _READ.get(text.get("blank_lines", "collapse"), "unknown")
        yield use, text["name"], count(text["documents"]), read, tag("code", text["sha256"][:16])


def _record(record: Mapping[str, Any]) -> tuple[Content, ...]:
    options = ", ".join(f"{name} {value}" for name, value in record["options"].items())
    cost = "not measured" if record["cost_nats"] is None else number(record["cost_nats"], ".4f")
    return record["made_by"], options, count(len(record["rewrites"])), number(record["seconds"], ".1f"), cost


def repeating(facts: Facts) -> Markup:
    """Give the command lines that make it all again."""
    lines = "\n".join(facts["commands"])
    return tag("div", tag("p", "In a shell, where englishroom is installed:"), tag("pre", tag("code", lines)))
