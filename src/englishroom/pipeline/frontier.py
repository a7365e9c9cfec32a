"""Sweep sparsity and precision, and set what comes out beside the target made smaller and beside n-grams.

1. Open the rooms and their target; measure both.
2. Quantise and prune the first sparse room in steps, refitted or not; write and measure each program.
3. Quantise and prune the target, and count n-grams, as ``englishroom score --baselines`` does; measure each.
4. Write the points, and draw them.

Every point is kept in a folder of work as soon as it is measured, so that the same command goes on where it was.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import englishroom
from englishroom.data.texts import Text, check_name
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.disk import locked, make_folder, replace_files
from englishroom.errors import ConfigError
from englishroom.evaluate.baselines import baselines, check_texts
from englishroom.evaluate.metrics import METRICS
from englishroom.evaluate.readability_metrics import READABILITY_METRICS
from englishroom.evaluate.tabulate import Known, ScoredTalker, tabulate
from englishroom.evaluate.talkers.program import ProgramTalker
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.inside.measure_moments import measure_moments
from englishroom.inside.selected import count_selected
from englishroom.inside.trace import rule_blocks, trace_of
from englishroom.ir.program import Program
from englishroom.ir.room import load_program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.names import CODE, FRONTIER, SCORES, TABLES, TRACE
from englishroom.number import bits as told_bits
from englishroom.passes.base import Pass, Record, run_passes
from englishroom.passes.moments import TableMoments
from englishroom.passes.prune import Prune, edge_tables
from englishroom.passes.quantise import Bits, Quantise
from englishroom.pipeline.commands import FrontierConfig
from englishroom.pipeline.deriving import write_derived
from englishroom.pipeline.labelling import rows_of
from englishroom.pipeline.opening import open_original, original_name
from englishroom.pipeline.refitting import Smaller, refit
from englishroom.pipeline.scoring import known_of
from englishroom.pipeline.texts import TalkerTexts
from englishroom.plain import to_json
from englishroom.report.frontier import ENTRIES, FIRED, LENGTH, RECOVERED, picture
from englishroom.steps import Progress, Say, silent
from englishroom.store import StoredRoom, check_apart, read_room, sha256, write_room
from englishroom.work import Work

POINTS, WORK = "points", "work"
VIEWS = {"": LENGTH, "-rules": FIRED, "-entries": ENTRIES, "-compute": RECOVERED}
PICTURES = {f"frontier{end}.svg": view for end, view in VIEWS.items()}
MOMENT_DOCUMENTS = 40
TRACED_DOCUMENTS = 8
KEPT_BITS = 6
"""Bits of the weights of programs that are pruned and refitted."""
SMALLER = ("quantised", "pruned", "n-gram")
"""Roles among the baselines that are points."""
Point = dict[str, Any]


def frontier(config: FrontierConfig, out: Path, say: Say = silent, progress: Progress = silent) -> dict[str, Any]:
    """Measure all points, write ``frontier.json`` and its pictures, and return what the former holds.

    Raises:
        EnglishRoomError: a room, a text or a setting will not do.
    """
    config.validate()
    for path in config.rooms:
        check_apart(path, out)
    rooms = [read_room(path) for path in config.rooms]
    _same_target(rooms)
    for text_name in (config.text, config.fit, config.choose):
        check_name(text_name)
    manifest = rooms[0].manifest
    name = original_name(rooms[0].path, manifest, config.model)
    target = open_original(rooms[0].path, manifest, load_program(rooms[0].path)[0].n_ctx, name)
    texts = TalkerTexts([target], config.blank_lines, say, progress)
    text, fit = texts.open(config.text, "--text", config.max_documents), texts.open(config.fit, "--fit")
    choose = texts.open(config.choose, "--choose")
    check_texts(fit, choose, text)
    make_folder(out)
    with locked(out):
        known = known_of(target, text)
        return _swept(_Sweep(config, out, name, target, text, fit, choose, known, say, progress), rooms)


def _swept(sweep: _Sweep, rooms: list[StoredRoom]) -> dict[str, Any]:
    """Measure all points in a folder that no other run writes to."""
    config, out, text, manifest = sweep.config, sweep.out, sweep.text, rooms[0].manifest
    points = [sweep.of_target(), *(sweep.of_room(room) for room in rooms)]
    sparse = next((room for room in rooms if room.manifest.level == "sparse"), None)
    if sparse is not None:
        points += sweep.made_of(sparse, config.precisions)
    elif config.bits or config.keep:
        sweep.say("none of the rooms is sparse; nothing to quantise or to prune but the target")
    if config.baselines:
        points += sweep.smaller()
    found = {
        "format": "englishroom frontier",
        "englishroom": englishroom.__version__,
        "target": {key: manifest.target[key] for key in ("name", "sha256")},
        "text": text.about(),
        "settings": config.plain(),
        "points": points,
    }
    pictures = {file: picture(points, view).encode() for file, view in PICTURES.items()}
    replace_files(out, pictures | {FRONTIER: to_json(found)})
    if config.store:
        _store(sparse or rooms[0], found)
    return found


def _same_target(rooms: list[StoredRoom]) -> None:
    first = rooms[0]
    for room in rooms[1:]:
        if room.manifest.target["sha256"] != first.manifest.target["sha256"]:
            raise ConfigError(
                f"{room.path}: made of {room.manifest.target['name']}, and {first.path} of "
                f"{first.manifest.target['name']}; give rooms of one model"
            )


@dataclass(frozen=True)
class _Sweep:
    """What it takes to measure a point."""

    config: FrontierConfig
    out: Path
    model: str
    target: TargetTalker
    text: Text
    fit: Text
    choose: Text
    known: Known
    say: Say
    progress: Progress

    def of_target(self) -> Point:
        def measure() -> Point:
            lead = ScoredTalker.of(self.target, "target")
            return self._measured(lead, "target", self.target.name, self.model)[0]

        return self._kept("target", {}, measure)

    def of_room(self, room: StoredRoom) -> Point:
        """Measure the program of a room as it is; how readable it is stands in its manifest, where that is known."""

        def measure() -> Point:
            program, tokenizer = load_program(room.path)
            label = f"{room.path.resolve().name}"
            kind = "readable" if program.is_readable else room.manifest.level
            return self._of_program(program, tokenizer, label, kind, str(room.path), label)[0]

        point = self._kept(f"room-{_slug(str(room.path))}", {"room": _program_sha256(room)}, measure)
        return readability_in(room.manifest.evidence) | point

    def made_of(self, room: StoredRoom, steps: list[Bits]) -> Iterator[Point]:
        """Quantise a sparse room at every precision, prune it to every share, and measure each."""
        program, tokenizer = load_program(room.path)

        @cache
        def moments() -> TableMoments:
            tokens = rows_of(self.fit, program, tokenizer, MOMENT_DOCUMENTS)
            return measure_moments(program, self.fit.name, tokens, partial(self.progress, "averaging what tables read"))

        n_edges = sum(table.n_entries for table in edge_tables(program).values())
        base = room.path.resolve().name
        for bits in steps:
            label = "ternary" if bits == "ternary" else f"{bits} bits"
            made = partial(_quantise, bits, moments)
            smaller = Smaller(bits, 1.0, self.config.refit)
            yield self._derived(room, tokenizer, program, "sparse, quantised", f"{base}, {label}", label, made, smaller)
        for share in self.config.keep:
            label, n_kept = f"{100 * share:g}%", round(share * n_edges)
            made = partial(_prune, n_kept, moments)
            name, smaller = f"{base}, {label} of its edges", Smaller(KEPT_BITS, share, self.config.refit)
            yield self._derived(room, tokenizer, program, "sparse, pruned", name, label, made, smaller)

    def _derived(
        self,
        room: StoredRoom,
        tokenizer: Tokenizer,
        program: Program,
        kind: str,
        name: str,
        label: str,
        step: Callable[[], Pass],
        smaller: Smaller,
    ) -> Point:
        """Make a program of that of a room, by a pass, or by a refit where one is asked for."""
        name, kind = (f"{what}, refitted" if smaller.tokens else what for what in (name, kind))
        place, text = self.out / POINTS / _slug(name), self.text.documents[0]
        known = {"room": _program_sha256(room), "fit": self.fit.sha256}
        settings = json.dumps([known, asdict(smaller), self.config.seed], sort_keys=True)
        checkpoint = self.out / WORK / f"{_slug(name)}.{sha256(settings.encode())[:8]}.pt"

        def measure() -> Point:
            if smaller.tokens:
                self.say(f"refitting {name}")
                checkpoint.parent.mkdir(parents=True, exist_ok=True)
                rows = TokenRows.of(tokenizer, self.fit.documents, program.n_ctx)
                changed, records = refit(
                    program, self.target.target, rows, smaller, checkpoint, known, self.config.seed, self.progress
                )
            else:
                changed, records = run_passes(program, [step()])
            point, files = self._of_program(changed, tokenizer, name, kind, str(place), label)
            summary_lines = (
                f"Made of the room {room.path.resolve().name} by {records[0].made_by}: {_summary(records[0])}.",
                *_summary_lines(point),
            )
            written = write_derived(
                room, changed, tokenizer, records, summary_lines, files, text, place, self.progress, not smaller.tokens
            )
            return point | {"manifest": written.sha256}

        identity = {"room": _program_sha256(room), "fit": self.fit.sha256, "kind": kind, "smaller": asdict(smaller)}
        found = self._kept(_slug(name), identity, measure, place)
        for old in (self.out / WORK).glob(f"{_slug(name)}.*.pt"):
            old.unlink()
        return found

    def smaller(self) -> list[Point]:
        """Measure the target quantised and pruned, and n-grams; all or nothing is taken from the folder of work."""

        def measure() -> list[Point]:
            found = []
            words = ["englishroom", "score", self.model, "--text", self.config.text, "--baselines"]
            words += ["--fit", self.config.fit, "--choose", self.config.choose, "--seed", str(self.config.seed)]
            words += ["--blank-lines", self.text.blank_lines]
            if self.config.max_documents is not None:
                words += ["--max-documents", str(self.config.max_documents)]
            again = shlex.join(words)
            for entry in baselines(self.target, self.fit, self.choose, self.config.seed, self.progress):
                if entry.role in SMALLER:
                    self.say(f"measuring {entry.name}")
                    label = entry.name.partition(" (")[0].removesuffix(" of the weights")
                    name = entry.name if entry.role == "n-gram" else f"{self.target.name}, {entry.name}"
                    found.append(self._measured(entry, entry.role, label, again)[0] | {"name": name})
            return found

        identity = {"fit": self.fit.sha256, "choose": self.choose.sha256}
        return self._kept("baselines", identity, measure)

    def _of_program(
        self, program: Program, tokenizer: Tokenizer, name: str, kind: str, place: str, label: str
    ) -> tuple[Point, dict[str, Any]]:
        self.say(f"measuring {name}")
        talker = ProgramTalker(name, program, tokenizer)
        point, scores = self._measured(ScoredTalker.of(talker), kind, label, place)
        tokens = rows_of(self.text, program, tokenizer, TRACED_DOCUMENTS)
        each = partial(self.progress, "counting what works")
        if not rule_blocks(program):
            return point | {"rules_fired_mean": count_selected(program, tokens, each)}, {SCORES: scores}
        trace = trace_of(program, self.text.name, tokens, each)
        fired = {"rules_fired_mean": trace["rules_fired"]["mean"], "rules_fired_p95": trace["rules_fired"]["p95"]}
        read = readability_by(trace) if program.level == "sparse" else {}
        return point | fired | read | {"rules": trace["rules"]}, {SCORES: scores, TRACE: trace}

    def _measured(self, entry: ScoredTalker, kind: str, label: str, place: str) -> tuple[Point, dict[str, Any]]:
        """Judge a talker beside the target."""
        entries = [entry] if entry.talker is self.target else [ScoredTalker.of(self.target, "target"), entry]
        table = tabulate(entries, self.target, self.text, self.known, 0, self.config.seed, self.progress)
        row = table.rows[-1].as_dict()
        kept = {key: row[key] for metric in METRICS if metric.in_frontier for key in metric.keys}
        return {"name": entry.name, "label": label, "kind": kind, "open": place} | kept, table.as_dict()

    def _kept(self, name: str, identity: dict[str, Any], measure: Callable[[], Any], place: Path | None = None) -> Any:
        """Return what was measured before under the same circumstances, or measure and keep it.

        Args:
            place: where the room of this point lies; without it, it is made again.
        """
        wanted = identity | {"target": self.target.target.sha256, "text": self.text.sha256, "seed": self.config.seed}
        work = Work(self.out / WORK, wanted)
        if place is not None and not place.is_dir():
            work.file(f"{name}.json").path.unlink(missing_ok=True)
        return work.once(f"{name}.json", measure)


def readability_in(evidence: dict[str, Any]) -> dict[str, Any]:
    """Return the measures of readability that points have, and that a manifest holds."""
    return {m.key: evidence[m.key] for m in READABILITY_METRICS if m.heading and m.key in evidence}


def readability_by(trace: dict[str, Any]) -> dict[str, float]:
    """Return the measures of readability that a trace holds; of other levels it counts too little of the tables."""
    return {
        "entries_used_mean": trace["edges_used"]["mean"],
        "reads_per_rule_most": trace["reads_per_rule"]["most"],
    }


def _quantise(bits: Bits, moments: Callable[[], TableMoments]) -> Pass:
    return Quantise(bits=bits, moments=moments())


def _prune(edges: int, moments: Callable[[], TableMoments]) -> Pass:
    return Prune(edges, moments())


def _program_sha256(room: StoredRoom) -> str:
    """Return the hash of a room's program, whatever else lies in the room."""
    files = room.manifest.files
    return sha256((files[CODE] + files[TABLES]).encode())


def _store(room: StoredRoom, found: dict[str, Any]) -> None:
    """Put what was found into a room, so that its report shows it."""
    with locked(room.path):
        now = read_room(room.path)  # it may have got other labels meanwhile
        if _program_sha256(now) != _program_sha256(room):
            raise ConfigError(f"{room.path}: holds another program than when the sweep began; give the command again")
        files = dict(now.contents) | {FRONTIER: to_json(found)}
        write_room(room.path, files.items(), lambda _folder: now.manifest, now.manifest)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")


def _summary(record: Record) -> str:
    return ", ".join(f"{name} {value}" for name, value in record.options.items())


def _summary_lines(point: Point) -> tuple[str, ...]:
    return (
        f"KL(target‖program) {point['kl_target_talker']:.4f} nats, CE {point['ce_increase']:+.4f}, "
        f"{told_bits(point['description_bits'])}.",
    )
