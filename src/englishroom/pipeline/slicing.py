"""From a room of a sparse program to the room of its slice: the part that one text needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.disk import locked
from englishroom.emit.graph import require_sparse
from englishroom.emit.python import Header
from englishroom.errors import ConfigError, one_line
from englishroom.evaluate.description import describe_program
from englishroom.evaluate.talk import prompt_tokens
from englishroom.evaluate.talkers.program import ProgramTalker
from englishroom.inside.entry_importance import gap_to, gaps, near_to, weigh
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.labels import Labels, load_labels
from englishroom.ir.program import Lookup, Program, Rules
from englishroom.ir.room import load_program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.verify import require_valid
from englishroom.names import SLICE
from englishroom.passes.base import Record, options_of
from englishroom.passes.slice import Slice, SliceResult, n_entries
from englishroom.pipeline.checking import positions_to_emit
from englishroom.pipeline.commands import SliceConfig
from englishroom.pipeline.evidence import CheckedText
from englishroom.pipeline.writing import draft_room, plain_record, versions, write
from englishroom.plain import to_json
from englishroom.steps import Progress, Say, silent
from englishroom.store import Manifest, check_apart, check_out, read_manifest


def slice_room(config: SliceConfig, out: Path, say: Say = silent, progress: Progress = silent) -> Manifest:
    """Write the room of the smallest program found that says the same on a text.

    1. Read the room; let its program read the text.
    2. Leave out all that the text does not need, as long as the gap stays within the tolerance.
    3. Write what is left as a room, with what it took and what it says in ``slice.json``.

    Raises:
        EnglishRoomError: the room, the text, a setting, or the place to write to will not do.
    """
    config.validate()
    check_apart(str(config.room), out)
    with locked(check_out(out)):
        return _sliced(config, out, say, progress)


def _sliced(config: SliceConfig, out: Path, say: Say, progress: Progress) -> Manifest:
    """Slice a program into a place that no other run writes to."""
    path = config.room
    whole, tokenizer = load_program(path)
    require_sparse(whole, "sliced")
    tokens = np.array(prompt_tokens(ProgramTalker(str(path), whole, tokenizer, np.float64), config.text))
    if len(tokens) < 2:
        raise ConfigError("the text has no tokens; give --text at least one word")
    near = near_to(whole, tokens, config.same, config.tolerance)
    search = Slice(
        config.tolerance,
        config.evaluations,
        config.fold,
        gap=gap_to(whole, tokens, config.same),
        weigh=lambda program: weigh(program, tokens, config.fold, near, config.seed),
        progress=progress,
    )
    found, steps = search.search(whole)
    require_valid(found.program)
    measured = _measured(config, whole, found, tokens, tokenizer)
    for line in summary_lines_of(measured):
        say(line)
    before = read_manifest(path)
    kl = measured["kl_program_slice_nats"]["mean"]
    record = Record(search.name, options_of(search), steps, cost_nats=kl)
    figures = {name: measured[name] for name in ("gap_nats", "description_bits", "entries", "rules")}
    manifest = replace(
        before,
        config=config.plain(),
        seed=config.seed,
        records=[*before.records, plain_record(record)],
        evidence={**figures, "kl_program_slice_nats": kl, "sliced_for": config.text},
        versions=versions(),
    )
    name, labels = before.target["name"], labels_of(load_labels(path, whole), found.kept)
    lines = (f"The slice of it that one text needs: {one_line(config.text)!r}.", *summary_lines_of(measured))
    read = CheckedText(tokens.tolist()).first(positions_to_emit(found.program))
    files = {SLICE: to_json(measured | {"steps": steps})}
    draft = draft_room(found.program, tokenizer, Header(f"a slice of {name}", lines), labels, read, manifest, files)
    return write(draft, out, progress, before)


def summary_lines_of(measured: Mapping[str, Any]) -> list[str]:
    """Say in a few lines what was kept of a program, and how near it is."""
    kl, bits, entries, rules = (
        measured[name] for name in ("kl_program_slice_nats", "description_bits", "entries", "rules")
    )
    return [
        f"kept {rules['kept']:,} of {rules['of']:,} rules, {entries['kept']:,} of {entries['of']:,} entries of tables, "
        f"{bits['kept'] / 1e6:.3f} of {bits['of'] / 1e6:.3f} Mbit",
        f"largest gap on the text {measured['gap_nats']:.4f} nats ({measured['gap_is']}), tolerance "
        f"{measured['tolerance_nats']:g}; KL(program‖slice) on it {kl['mean']:.4f} nats, at most {kl['max']:.4f}",
    ]


def _measured(
    config: SliceConfig, whole: Program, found: SliceResult, tokens: NDArray[np.integer], tokenizer: Tokenizer
) -> dict[str, Any]:
    """Say what was kept, and how far the slice is from the whole on the text."""
    before = Interpreter(whole, np.float64).log_probs(tokens)
    after = Interpreter(found.program, np.float64).log_probs(tokens)
    kl = gaps(before, after, tokens, "distributions")
    at = np.arange(len(tokens) - 1)
    pieces = [tokenizer.pieces[token].decode("utf-8", "replace") for token in tokens[1:].tolist()]
    rows = zip(pieces, before[at, tokens[1:]], after[at, tokens[1:]], strict=True)
    features = {b.name: whole.space(b.space).size for b in whole.blocks if isinstance(b, Lookup | Rules)}
    return {
        "text": config.text,
        "tokens": len(tokens),
        "same": config.same,
        "gap_is": "largest difference of a token's log-probability"
        if config.same == "tokens"
        else "largest KL(program‖slice) after a position",
        "tolerance_nats": config.tolerance,
        "gap_nats": float(gaps(before, after, tokens, config.same).max(initial=0.0)),
        "kl_program_slice_nats": {"mean": float(kl.mean()), "max": float(kl.max())},
        "entries": {"kept": n_entries(found.program), "of": n_entries(whole)},
        "rules": {"kept": n_rules(found.program), "of": n_rules(whole)},
        "description_bits": {"kept": describe_program(found.program).bits, "of": describe_program(whole).bits},
        "says": [{"token": token, "whole_nats": float(p), "slice_nats": float(q)} for token, p, q in rows],
        "features": {
            name: {"of": n, "kept": found.kept.get(name, np.zeros(0, int)).tolist()} for name, n in features.items()
        },
    }


def n_rules(program: Program) -> int:
    """Count the rules of a program."""
    return sum(block.conditions.shape[0] for block in program.blocks if isinstance(block, Rules))


def labels_of(labels: Labels, kept: Mapping[str, NDArray[np.intp]]) -> Labels:
    """Keep the labels of what was kept."""
    features = {name: found for name, found in labels.features.items() if name in kept}
    return Labels({name: tuple(found[at] for at in kept[name]) for name, found in features.items()}, labels.about)
