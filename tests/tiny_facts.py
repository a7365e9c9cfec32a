"""Facts of a room for a report: of one in which nothing was measured, and of one with everything."""

from __future__ import annotations

from typing import Any


def bare_facts() -> dict[str, Any]:
    """Return the facts of a room of which nothing was measured."""
    return {
        "englishroom": "0.0",
        "room": {
            "name": "room",
            "sha256": "1" * 64,
            "level": "sparse",
            "target": {
                "name": "small",
                "sha256": "2" * 64,
                "parameters": 1234,
                "spec": {"family": "gpt2", "d_model": 8},
            },
            "config": {"model": "small", "preset": "fast", "changes": [["edges", 5]]},
            "seed": 7,
            "records": [],
            "evidence": {},
            "versions": {"python": "3"},
            "files": {},
        },
        "program": {"blocks": 3, "tables": 2, "entries": 10, "rules": 4},
        "commands": ["englishroom decompile small"],
    }


def row(name: str, role: str, **more: Any) -> dict[str, Any]:
    """Return a row of scores.json."""
    return {"talker": name, "role": role, "nats_per_token": 2.0, "nats_per_token_interval": [1.9, 2.1]} | more


def full_facts(text: str = "word") -> dict[str, Any]:
    """Return facts of everything, a text that came from a model in every place where one may stand."""
    category = {"tokens": 5, "nats_per_token": 2.5, "ce_increase": 0.5, "ce_increase_interval": [0.4, "nan"]}
    token = {
        "token": text,
        "expected": text,
        "target_nats": 1.0,
        "program_nats": 3.5,
        "rules_fired": 12,
        "baseline": -8.0,
    }
    differing = {"before": text, "token": text, "nats": [0.1, 9.9], "expected": [text, text]}
    point = {"name": text, "label": text, "open": text, "kl_target_talker": 0.5, "ce_increase": 0.4}
    facts = bare_facts()
    facts["room"] |= {
        "name": text,
        "target": facts["room"]["target"] | {"name": text},
        "config": facts["room"]["config"] | {"model": text},
        "records": [{"made_by": text, "options": {text: text}, "rewrites": [text], "seconds": 1.5, "cost_nats": 0.25}],
        "evidence": {"texts": {"fit": {"name": text, "documents": 9, "sha256": "3" * 64}}, "a_number": 0.125},
        "versions": {text: text},
        "files": {text: {"bytes": 77, "sha256": "4" * 64}},
    }
    return facts | {
        "scores": {
            "text": {"name": text, "documents": 60, "bytes": 5000, "sha256": "5" * 64},
            "settings": {"notes": [text]},
            "rows": [
                row(text + " target", "target", description_bits=1e7),
                row(
                    text + " program",
                    "talker",
                    kl_target_talker=0.456,
                    ce_increase=0.5,
                    ce_increase_interval=[0.4, 0.6],
                    top1_agreement=0.777,
                    description_bits=5e6,
                    training_compute_recovered="31.4 % (29.0 to 33.0)",
                ),
                row(text + " bigram", "n-gram", kl_target_talker=3.0),
            ],
            "categories": [
                {"talker": text + " target", "category": text} | category,
                {"talker": text + " program", "category": text} | category,
                {"talker": text + " program", "category": "all"} | category,
            ],
        },
        "trace": {"rules_fired": {"mean": 123.4}, "reads_per_rule": {"median": 4.0, "p95": 31.0}},
        "frontier": {
            "text": {"name": text, "documents": 3},
            "points": [
                point | {"kind": "sparse", "description_bits": 3e6, "rules_fired_mean": 100.0},
                point | {"kind": "n-gram", "description_bits": 9e6, "rules_fired_mean": None},
            ],
        },
        "memory": {"tables": [{"name": text, "bits": 12.5}], "share": 0.5, text: [text]},
        "rules": {
            "about": {"text": text},
            "of": 4,
            "rows": [
                {
                    "variable": "rules.0",
                    "index": 3,
                    "label": text,
                    "group": text,
                    "importance": 0.5,
                    "frequency": 0.01,
                    "mean": 1.0,
                    "tokens": [[text, 0.5]],
                    "contexts": [[text, 0.25]],
                    "votes": [[text, -0.5]],
                }
            ],
        },
        "sentences": [{"document": 0, "text": text, "tokens": [token | {"parts": [{"name": text, "nats": -0.5}]}]}],
        "fidelity": {"protocols": [{"protocol": "alone", "what": text, "kl_target_program_nats": 0.0625}]},
        "compared": {
            "text": text,
            "documents": 4,
            "first_better": [differing],
            "second_better": [differing],
            "stories": [{"prompt": text, "seed": 3, "first": text, "second": text + "!", "alike": len(text)}],
        },
        "commands": [f"englishroom decompile {text}"],
    }
