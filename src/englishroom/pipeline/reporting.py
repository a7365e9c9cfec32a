"""From a room to the facts of its report: what it holds already, and what is measured anew."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import englishroom
from englishroom.data.texts import READY, Text
from englishroom.disk import finish, locked, make_folder, replace_files
from englishroom.errors import ArtifactError, ConfigError, EnglishRoomError
from englishroom.evaluate.compare import compare
from englishroom.evaluate.talk import TalkOptions, readable_prompts
from englishroom.evaluate.talkers.program import ProgramTalker
from englishroom.inside.trace import reads_per_rule, rule_blocks, trace_of
from englishroom.ir.labels import Labels, check_labels, labels_from_json
from englishroom.ir.program import Program
from englishroom.ir.room import load_program
from englishroom.names import FIDELITY, FRONTIER, LABELS, MANIFEST, MEMORY, SCORES, TRACE
from englishroom.pipeline.commands import PROMPTS, ReportConfig, ScoreConfig
from englishroom.pipeline.config import TalkerOpening
from englishroom.pipeline.following import follow
from englishroom.pipeline.labelling import rows_of
from englishroom.pipeline.opening import may_open_text, open_original, original_name, original_tokenizer
from englishroom.pipeline.presets import command_of, nearest_preset, settings_of
from englishroom.pipeline.scoring import score_table
from englishroom.pipeline.texts import open_again
from englishroom.plain import from_json, to_json
from englishroom.report.forms import FORMS, REPORTED
from englishroom.report.page import page
from englishroom.steps import Progress, Say, silent
from englishroom.store import Manifest, StoredRoom, read_room, sha256
from englishroom.untrusted import parse_plain, read_bytes

if TYPE_CHECKING:
    from englishroom.ir.tokenizer import Tokenizer
    from englishroom.talker import Talker

HTML, FACTS = "report.html", "report.json"
COMPARED_DOCUMENTS = 40
TRACED_DOCUMENTS = 12
IMPORTANT_RULES = 40


def report(config: ReportConfig, out: Path, say: Say = silent, progress: Progress = silent) -> dict[str, Any]:
    """Write the report of a room as ``report.html`` and ``report.json`` into a folder.

    1. Read what the room holds.
    2. Open its target and its text, and measure what the room lacks; what an earlier report measured stays.
    3. Write the facts, and the page of them.

    Raises:
        EnglishRoomError: the room, a text or a file is not what it should be.
    """
    config.validate()
    make_folder(out)
    with locked(out):
        return _report(config, out, say, progress)


def _report(config: ReportConfig, out: Path, say: Say, progress: Progress) -> dict[str, Any]:
    """Write a report into a folder that no other run writes to."""
    finish(out, (HTML, FACTS))
    stored = read_room(config.path)
    program, tokenizer = load_program(config.path)
    facts = _held(config, stored, program)
    text = _text(config, stored.manifest, tokenizer, say, progress)
    wanted = _identity(config, stored, text)
    before = _before(out / FACTS, wanted)
    if before is None:
        measured = _Measuring(config, stored, program, tokenizer, text, say, progress).all(facts)
    else:
        say(f"{out / FACTS}: measured before")
        measured = before
    facts |= measured | {"measured": measured, "identity": wanted}
    data = to_json(facts)
    replace_files(out, {HTML: page(from_json(data)).encode(), FACTS: data})
    return facts


def _held(config: ReportConfig, stored: StoredRoom, program: Program) -> dict[str, Any]:
    """Collect what a room says of itself."""
    manifest = stored.manifest
    files = {name: {"bytes": len(data), "sha256": manifest.files[name]} for name, data in stored.contents.items()}
    own = {name: stored.json(name, form) if name in stored.contents else None for name, form in FORMS.items()}
    return {
        "format": "englishroom report",
        "englishroom": englishroom.__version__,
        "room": {
            "name": config.path.resolve().name,
            "sha256": sha256(read_bytes(config.path / MANIFEST, "restore the file")),
            "level": manifest.level,
            "target": manifest.target,
            "config": manifest.config,
            "preset": None if manifest.level == "exact" else nearest_preset(settings_of(manifest)),
            "seed": manifest.seed,
            "records": manifest.records,
            "evidence": manifest.evidence,
            "versions": manifest.versions,
            "files": files,
        },
        "program": {
            "blocks": len(program.blocks),
            "tables": len(program.tables()),
            "entries": program.n_entries,
            "rules": len(reads_per_rule(program)),
        },
        "scores": own[SCORES],
        "trace": own[TRACE],
        "fidelity": own[FIDELITY],
        "memory": own[MEMORY],
        "frontier": own[FRONTIER] if config.frontier is None else _frontier(config.frontier),
        "rules": _important(_labels(stored, program), program),
        "commands": commands(config.path, manifest),
    }


def _frontier(path: Path) -> Any:
    file, advice = path / FRONTIER if path.is_dir() else path, "make it with englishroom frontier"
    return parse_plain(read_bytes(file, advice), file, advice, FORMS[FRONTIER])


def _labels(stored: StoredRoom, program: Program) -> Labels:
    if LABELS not in stored.contents:
        return Labels()
    where = str(stored.path / LABELS)
    return check_labels(labels_from_json(stored.contents[LABELS], where), program, where)


def _important(labels: Labels, program: Program) -> dict[str, Any] | None:
    """Pick the named rules that matter most, moved features of looks among them, with their evidence."""
    of_rules = {block.name for block in rule_blocks(program)}
    found = [
        (feature, variable, index)
        for variable, features in labels.features.items()
        if variable in of_rules
        for index, feature in enumerate(features)
    ]
    if not found:
        return None
    found.sort(key=lambda entry: -entry[0].importance)
    rows = [{"variable": variable, "index": index} | asdict(one) for one, variable, index in found[:IMPORTANT_RULES]]
    return {"about": dict(labels.about), "of": len(found), "rows": rows}


def commands(room: Path, manifest: Manifest) -> list[str]:
    """Spell out the command lines that make a room, measure it and report on it."""
    config = settings_of(manifest)
    lines = [
        [*command_of(config), "--out", str(room)],
        ["englishroom", "score", config.model, str(room), "--baselines"],
        ["englishroom", "report", str(room)],
    ]
    return [shlex.join(line) for line in lines]


def _text(config: ReportConfig, manifest: Manifest, tokenizer: Tokenizer, say: Say, progress: Progress) -> Text:
    """Open the text to measure on: the one given, the one that the room was reported on, or the ready corpus."""
    about = (manifest.evidence.get("texts") or {}).get("report") or {}
    if config.text is not None:
        given = {"name": config.text, "blank_lines": about.get("blank_lines")}
        return open_again(given, tokenizer, progress, config.max_documents)
    name = str(about.get("name", READY))
    asked = may_open_text(manifest, name)
    try:
        found = open_again(about if asked else {}, tokenizer, progress, config.max_documents)
    except EnglishRoomError:
        asked, found = False, open_again({}, tokenizer, progress, config.max_documents)
    if not asked:
        say(f"{name}: the text that this room was measured on is not here, or not read unasked; measuring on {READY}")
        return found
    if config.max_documents is None and about and found.sha256 != about.get("sha256"):
        say(f"{name}: holds other documents than when this room was measured on it")
    return found


def _identity(config: ReportConfig, stored: StoredRoom, text: Text) -> dict[str, Any]:
    """Name everything that what is measured depends on."""
    settings = {"prompts": list(config.prompts), "seed": config.seed, "model": config.model, "given": config.text}
    return {
        "room": stored.manifest.sha256,
        "text": text.sha256,
        "documents": len(text.documents),
        "englishroom": englishroom.__version__,
        **settings,
    }


def _before(path: Path, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what an earlier report measured of the same room on the same text."""
    if not path.is_file():
        return None
    try:
        found = parse_plain(read_bytes(path, ""), path, "", REPORTED)
    except ArtifactError:  # of another version, or without a comparison: it is measured again
        return None
    return dict(found["measured"]) if found["identity"] == wanted else None


@dataclass(frozen=True)
class _Measuring:
    """What it takes to measure what a room lacks."""

    config: ReportConfig
    stored: StoredRoom
    program: Program
    tokenizer: Tokenizer
    text: Text
    say: Say
    progress: Progress

    def all(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if facts["trace"] is None and facts["program"]["rules"]:
            found["trace"] = self._trace()
        try:
            target = self._target()
        except EnglishRoomError as error:
            self.say(f"not compared with its target: {error}")
            return found | {"not_compared": str(error), "not_followed": str(error)}
        program = ProgramTalker(f"{self.stored.path.name} ({self.program.level})", self.program, self.tokenizer)
        if facts["scores"] is None or self.config.text is not None:
            found[SCORES.removesuffix(".json")] = self._scores()
        found["compared"] = self._compared(target, program)
        if self.program.level == "sparse":
            labels = _labels(self.stored, self.program)
            found["sentences"] = follow(target, self.program, self.tokenizer, labels, self.text, self.progress)
        return found

    def _name(self) -> str:
        return original_name(self.stored.path, self.stored.manifest, self.config.model)

    def _target(self) -> Talker:
        talker = open_original(self.stored.path, self.stored.manifest, self.program.n_ctx, self._name())
        if talker.tokenizer != self.tokenizer:
            raise ConfigError(f"{self._name()}: has another tokenizer than the room; name the model with --model")
        return talker

    def _trace(self) -> dict[str, Any]:
        tokens = rows_of(self.text, self.program, self.tokenizer, TRACED_DOCUMENTS)
        return trace_of(self.program, self.text.name, tokens, partial(self.progress, "counting what works"))

    def _scores(self) -> dict[str, Any]:
        settings = ScoreConfig(
            (self._name(), str(self.config.path)),
            text=self.config.text or READY,
            max_documents=len(self.text.documents),
            seed=self.config.seed,
            blank_lines=self.text.blank_lines,
            opening=TalkerOpening(original_tokenizer(self.stored.manifest), self.program.n_ctx, check=False),
        )
        return score_table(settings, self.say, self.progress).as_dict()

    def _compared(self, target: Talker, program: Talker) -> dict[str, Any]:
        prompts = self.config.prompts
        prompts = readable_prompts(target, prompts) if prompts == PROMPTS else prompts
        found = compare(
            target,
            program,
            self.text.documents[:COMPARED_DOCUMENTS],
            prompts,
            self.config.seed,
            story=TalkOptions(max_tokens=160),
            progress=partial(self.progress, "comparing with the target"),
        )
        alike = [asdict(story) | {"alike": story.alike} for story in found.stories]
        return found.as_dict() | {"stories": alike, "text": self.text.name}
