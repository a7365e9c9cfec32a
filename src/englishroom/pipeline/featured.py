"""From a target to a featured program: texts, fit, fidelity, interventions, evidence.

The folder OUT.work beside the room holds what a killed run needs to go on: sampled texts, the fit's checkpoint, and
what was already measured. It is removed once the room stands.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from englishroom.data.corpus import replace_file
from englishroom.data.texts import PARTS, READY, Text, open_text, part_file
from englishroom.errors import ConfigError
from englishroom.pipeline.presets import Preset, preset_of
from englishroom.pipeline.steps import Progress, Say
from englishroom.pipeline.writing import Made

if TYPE_CHECKING:
    from englishroom.dictionaries.dictionary import Dictionary
    from englishroom.dictionaries.replacement import Replacement
    from englishroom.ir.program import Program
    from englishroom.ir.tokenizer import Tokenizer
    from englishroom.models.load import Target
    from englishroom.pipeline.decompile import DecompileConfig

FIDELITY, PROBES, CIRCUITS, SCORES = "fidelity.json", "interventions.json", "circuits.json", "scores.json"
EVIDENCE_ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class Texts:
    """What is fitted on, chosen on and reported on."""

    fit: Text
    choose: Text
    report: Text

    def about(self) -> dict[str, Any]:
        """Name the texts in an artefact."""
        return {
            part: {"name": text.name, "sha256": text.sha256, "documents": len(text.documents)}
            for part, text in (("fit", self.fit), ("choose", self.choose), ("report", self.report))
        }


def work_folder(out: Path) -> Path:
    """Return the folder in which a decompilation keeps what it needs to go on."""
    return out.parent / f"{out.name}.work"


def clear_work(out: Path) -> None:
    """Remove what a finished decompilation no longer needs."""
    shutil.rmtree(work_folder(out), ignore_errors=True)


def featured(
    config: DecompileConfig,
    target: Target,
    tokenizer: Tokenizer,
    evidence: dict[str, Any],
    out: Path,
    say: Say,
    progress: Progress,
) -> Made:
    """Fit dictionaries to a target and write it, with them, as a featured program.

    1. Read the texts, or let the target tell them: one to fit on, one to choose on, one to report on.
    2. Fit the dictionaries, first each by itself, then all together with errors propagating.
    3. Measure them by the three protocols, on the reporting text.
    4. Switch parts off, in target and program, and see whether the same happens.
    5. Describe the circuits, and collect evidence of what every latent stands for.
    6. Write the program, without error blocks, and score it beside the target.

    Raises:
        EnglishRoomError: a setting, a text or the work folder will not do.
    """
    from englishroom.lower.featurise import featurise

    preset = preset_of(config.preset, dict(config.changes))
    work = _open_work(work_folder(out), config, target)
    texts = _texts(config, preset, target, tokenizer, work, say, progress)
    say(f"fitting on {texts.fit.name}, reporting on {texts.report.name}")
    replacement = _fitted(config, preset, target, tokenizer, texts, work, say, progress)
    measured = {
        FIDELITY: _measured(work / FIDELITY, lambda: _fidelity(replacement, target, tokenizer, texts, progress)),
        PROBES: _measured(work / PROBES, lambda: _probes(replacement, target, tokenizer, texts, preset, progress)),
        CIRCUITS: _measured(
            work / CIRCUITS, lambda: _circuits(replacement, target, tokenizer, texts, config, preset, progress)
        ),
    }
    for line in _told(measured[FIDELITY]):
        say(line)
    program, record = featurise(target, replacement)
    say(f"featured: {len(program.blocks)} blocks, {program.n_entries:,} numbers")
    scores = _measured(work / SCORES, lambda: _scores(program, target, tokenizer, texts, config, preset, progress))
    evidence |= _summary(measured, scores) | {"texts": texts.about(), "preset": asdict(preset)}
    files = {name: _json(value) for name, value in {**measured, SCORES: scores}.items()}
    files |= _evidence(replacement, target, tokenizer, texts, preset, progress)
    return Made(program, [record], ("dictionaries", _runner(replacement)), _heading(target), evidence, files)


def _open_work(work: Path, config: DecompileConfig, target: Target) -> Path:
    """Make the work folder, or see that it belongs to this very decompilation.

    Raises:
        ConfigError: it belongs to another.
    """
    identity = json.dumps({"config": asdict(config), "target": target.sha256}, default=str, sort_keys=True)
    mark = work / "identity"
    if work.exists() and not (mark.is_file() and mark.read_text() == identity):
        raise ConfigError(
            f"{work}: holds the work of another decompilation; finish that with its own settings, delete the folder, "
            "or choose another --out"
        )
    work.mkdir(parents=True, exist_ok=True)
    replace_file(mark, identity.encode())
    return work


def _texts(
    config: DecompileConfig,
    preset: Preset,
    target: Target,
    tokenizer: Tokenizer,
    work: Path,
    say: Say,
    progress: Progress,
) -> Texts:
    from englishroom.evaluate.baselines import check_texts

    own: dict[str, str] = {}
    if not (config.fit and config.choose and config.report):
        own = _own_texts(config, preset, target, tokenizer, work, say, progress)

    def read(name: str | None, part: str, limit: int | None = None) -> Text:
        text = open_text(name or own[part], progress, limit)
        sampled = name is None and not own[part].startswith(READY)
        limited = f" (first {limit:,} documents)" if limit and len(text.documents) == limit else ""
        return replace(text, name=f"samples of {target.name}, {part}{limited}") if sampled else text

    fits = [read(name, "fit") for name in config.fit or (None,)]
    fit = (
        fits[0] if len(fits) == 1 else Text.of(" + ".join(t.name for t in fits), [d for t in fits for d in t.documents])
    )
    choose, report = read(config.choose, "choose"), read(config.report, "report", preset.report_documents)
    check_texts(fit, choose, report)
    return Texts(fit, choose, report)


def _own_texts(
    config: DecompileConfig,
    preset: Preset,
    target: Target,
    tokenizer: Tokenizer,
    work: Path,
    say: Say,
    progress: Progress,
) -> dict[str, str]:
    """Name texts that the target told: the ready corpus where it is the target's and large enough, else new ones."""
    from englishroom.evaluate.sample import SampleOptions
    from englishroom.evaluate.sample_file import Source, write_parts
    from englishroom.evaluate.target import TargetTalker

    if ready_source() == target.sha256 and len(open_text(f"{READY}:fit").documents) >= preset.samples[0]:
        return {part: f"{READY}:{part}" for part in PARTS}
    folder = work / "texts"
    say(f"sampling {sum(preset.samples):,} documents from {target.name}")
    options = SampleOptions(seed=config.seed, precision="float32")
    talker, source = TargetTalker(target, tokenizer), Source(target.name, target.sha256)
    write_parts(talker, source, options, preset.samples, folder, progress=progress)
    return {part: str(part_file(folder, part)) for part in PARTS}


def ready_source() -> str:
    """Return the hash of the model that the ready corpus was sampled from."""
    from importlib import resources

    record = json.loads((resources.files("englishroom.data") / "ready" / "parts.json").read_text())
    return str(record["model"]["sha256"])


def _fitted(
    config: DecompileConfig,
    preset: Preset,
    target: Target,
    tokenizer: Tokenizer,
    texts: Texts,
    work: Path,
    say: Say,
    progress: Progress,
) -> Replacement:
    from englishroom.dictionaries.fit import Fit, fit
    from englishroom.dictionaries.rows import TokenRows

    rows = TokenRows.of(tokenizer, texts.fit.documents, target.spec.n_ctx)
    identity = {"target": target.sha256, "text": texts.fit.sha256}
    given: list[Dictionary] = []
    if config.dictionaries is not None:
        from englishroom.dictionaries.formats import read_dictionaries

        given = read_dictionaries(config.dictionaries)
        identity["dictionaries_sha256"] = weights_sha256(given)
    specs = tuple(d.spec for d in given) or preset.specs(target.spec)
    run = Fit(target, specs, rows, preset.fit(config.seed), identity, given)
    say(f"fitting {len(run.trainer.dictionaries)} dictionaries: {run.n_local:,} steps apart, {run.n_joint:,} together")

    def told(run: Fit, _loss: float) -> None:
        stage = "fitting apart" if run.step <= run.n_local else "fitting together"
        at, of = (run.step, run.n_local) if run.step <= run.n_local else (run.step - run.n_local, run.n_joint)
        progress(stage, at, of)

    return fit(run, work / "fit.pt", told)


def weights_sha256(dictionaries: Sequence[Dictionary]) -> str:
    """Hash the weights of dictionaries."""
    digest = hashlib.sha256()
    for dictionary in dictionaries:
        for name, tensor in sorted(dictionary.weights.items()):
            digest.update(name.encode() + np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()


def _measured(path: Path, measure: Callable[[], Any]) -> Any:
    """Return what was measured before, or measure and keep it."""
    if path.exists():
        return json.loads(path.read_bytes())
    found = json.loads(_json(measure()))
    replace_file(path, _json(found))
    return found


def _json(value: Any) -> bytes:
    from englishroom.evaluate.table import finite

    return (json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _fidelity(
    replacement: Replacement, target: Target, tokenizer: Tokenizer, texts: Texts, progress: Progress
) -> dict[str, Any]:
    from englishroom.dictionaries.fidelity import measure_fidelity
    from englishroom.dictionaries.rows import TokenRows

    rows = TokenRows.of(tokenizer, texts.report.documents, target.spec.n_ctx)
    found = measure_fidelity(
        replacement, target.weights, rows, progress=lambda done, total: progress("three protocols", done, total)
    )
    return {"text": texts.report.name, "text_sha256": texts.report.sha256, **asdict(found)}


def _runner(replacement: Replacement) -> Callable[[Any], Any]:
    """Run fitted dictionaries in float64, by torch."""

    def log_probs(tokens: Any) -> Any:
        exact = replace(
            replacement,
            weights={k: t.double() for k, t in replacement.weights.items()},
            dictionaries=tuple(d.double() for d in replacement.dictionaries),
        )
        with torch.no_grad():
            return exact.logits(exact.run(torch.from_numpy(np.asarray(tokens, np.int64)))).log_softmax(-1).numpy()

    return log_probs


def _evidence(
    replacement: Replacement,
    target: Target,
    tokenizer: Tokenizer,
    texts: Texts,
    preset: Preset,
    progress: Progress,
) -> dict[str, bytes]:
    """Read the beginning of the fitting text once more, and keep what every latent fires on."""
    from englishroom.dictionaries.evidence.harvest import harvest
    from englishroom.dictionaries.evidence.rows import rows_of
    from englishroom.dictionaries.evidence.tabulate import tabulate

    documents = texts.fit.documents[: preset.evidence_rows]
    tokens = [[tokenizer.start_id, *tokenizer.encode(document)] for document in documents]
    step = "collecting evidence"

    def counted(batches: Any) -> Any:
        done = 0
        for batch in batches:
            yield batch
            done += len(batch.tokens)
            progress(step, done, len(tokens))

    found = harvest(replacement, counted(rows_of(tokens, target.spec.n_ctx, EVIDENCE_ROWS_AT_ONCE)))
    about = {"name": texts.fit.name, "sha256": texts.fit.sha256, "documents": len(documents)}
    return tabulate(replacement, found, tokenizer, about).files()


def _scores(
    program: Program,
    target: Target,
    tokenizer: Tokenizer,
    texts: Texts,
    config: DecompileConfig,
    preset: Preset,
    progress: Progress,
) -> dict[str, Any]:
    """Judge the program beside the target, on the reporting text, by everything that is measured of any talker."""
    from englishroom.evaluate.description import describe
    from englishroom.evaluate.program import ProgramTalker
    from englishroom.evaluate.table import Table
    from englishroom.evaluate.tabulate import Entry, tabulate
    from englishroom.evaluate.target import TargetTalker
    from englishroom.pipeline.scoring import known_of

    lead, talker = TargetTalker(target, tokenizer), ProgramTalker(f"{target.name}, featured", program, tokenizer)
    entries = [
        Entry(lead, "target", lead.name, describe(lead).bits),
        Entry(talker, "talker", talker.name, describe(talker).bits),
    ]
    known = known_of(lead, texts.report)
    rows, categories = tabulate(entries, lead, texts.report, known, preset.greedy_prompts, config.seed, progress)
    about = {
        "name": texts.report.name,
        "sha256": texts.report.sha256,
        "documents": len(texts.report.documents),
        "bytes": texts.report.n_bytes,
    }
    settings: dict[str, Any] = {"seed": config.seed, "notes": []}
    if known.curve is None:
        settings["notes"].append(f"{lead.name}: no training curve on this text, so no training compute recovered")
    return Table(about, rows, categories, settings).as_dict()


def _told(fidelity: dict[str, Any]) -> list[str]:
    """Say in a few lines what the three protocols found."""
    names = {
        "alone": "one dictionary at a time",
        "clean": "all at once, on clean inputs",
        "running": "all at once, errors propagating",
    }
    lines = []
    for row in fidelity["protocols"]:
        what = f" ({row['what']})" if row["protocol"] == "alone" else ""
        lines.append(
            f"{names[row['protocol']]}{what}: KL(target‖program) {row['kl_target_program_nats']:.4f} nats, "
            f"CE {row['ce_increase_nats']:+.4f}, same top-1 {row['top1_agreement']:.3f}"
        )
    return lines


def _heading(target: Target) -> Callable[[dict[str, Any]], tuple[str, ...]]:
    from englishroom.pipeline.decompile import target_line

    first = target_line(target)

    def facts(evidence: dict[str, Any]) -> tuple[str, ...]:
        return (
            *first,
            f"Held: on {evidence['texts']['report']['name']} KL(target‖program) is "
            f"{evidence['kl_target_program_nats']:.4f} nats per token, the cross-entropy "
            f"{evidence['ce_increase_nats']:+.4f},",
            f"        and {evidence['top1_agreement']:.1%} of likeliest tokens are the same. There are no error "
            "blocks: what no feature explains is lost.",
        )

    return facts


def _probes(
    replacement: Replacement,
    target: Target,
    tokenizer: Tokenizer,
    texts: Texts,
    preset: Preset,
    progress: Progress,
) -> dict[str, Any]:
    """Switch off every head and every MLP, in target and program, and compare what that changes."""
    from englishroom.circuits.intervene import measure_interventions
    from englishroom.circuits.parts import block_interventions
    from englishroom.dictionaries.rows import TokenRows

    length = target.spec.n_ctx
    report = TokenRows.of(tokenizer, texts.report.documents, length)
    choose = TokenRows.of(tokenizer, texts.choose.documents, length)
    read, means = (torch.from_numpy(rows.rows(range(min(preset.probe_rows, rows.n_rows)))) for rows in (report, choose))
    interventions = block_interventions(target.spec, ("zero", "mean"))
    rows = measure_interventions(
        target.spec, target.weights, replacement, read, means, interventions, progress=progress
    )
    return {
        "text": texts.report.name,
        "text_sha256": texts.report.sha256,
        "means_from": texts.choose.name,
        "rows": len(read),
        "interventions": [asdict(row) for row in rows],
    }


def _circuits(
    replacement: Replacement,
    target: Target,
    tokenizer: Tokenizer,
    texts: Texts,
    config: DecompileConfig,
    preset: Preset,
    progress: Progress,
) -> dict[str, Any]:
    from englishroom.dictionaries.rows import TokenRows
    from englishroom.pipeline.circuits import describe_circuits

    rows = TokenRows.of(tokenizer, texts.choose.documents, target.spec.n_ctx)
    read = torch.from_numpy(rows.rows(range(min(preset.probe_rows, rows.n_rows))))
    return {"text": texts.choose.name} | describe_circuits(replacement, target, tokenizer, read, config.seed, progress)


def _summary(measured: dict[str, Any], scores: dict[str, Any]) -> dict[str, Any]:
    """Pick what the manifest and the header of the emitted file say."""
    program = next(row for row in scores["rows"] if row["role"] == "talker")
    running = next(row for row in measured[FIDELITY]["protocols"] if row["protocol"] == "running")
    found = {
        "kl_target_program_nats": running["kl_target_program_nats"],
        "ce_increase_nats": running["ce_increase_nats"],
        "top1_agreement": running["top1_agreement"],
        "training_compute_recovered": program.get("training_compute_recovered"),
        "description_bits": program.get("description_bits"),
    }
    for row in measured[PROBES]["interventions"]:
        if row["part"] == "all" and row["measure"] == "centred":
            found[f"correlation_of_effects_{row['kind']}_{row['how']}"] = row["pearson"]
    return found
