"""From a talker to its sketch: the shortest readable program that keeps a stated share of what it does."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import englishroom
from englishroom.data.corpus import document_marks
from englishroom.data.overlap import check_overlap
from englishroom.data.texts import Text, check_name
from englishroom.disk import locked
from englishroom.errors import ConfigError
from englishroom.evaluate.rising_loss import rising_loss
from englishroom.manifest import versions_of
from englishroom.pipeline.commands import SketchConfig
from englishroom.pipeline.opening import open_talker, talker_sha256
from englishroom.pipeline.texts import TalkerTexts
from englishroom.steps import Progress, Say, silent
from englishroom.store import check_apart
from englishroom.work import Kept

if TYPE_CHECKING:  # scipy and numba load only where something is fitted
    from englishroom.sketch.folder import SketchRecord
    from englishroom.sketch.sampling import Heard
    from englishroom.sketch.studio import Judged
    from englishroom.talker import Talker

TOLERANCE_NATS = 1e-9
"""How far the written file may be from the votes that were fitted."""
LINE_WIDTH = 116
CHECKED_WINDOWS = 4
"""Windows of the reporting text on which the written file is run."""
JUDGED_POSITIONS = 10_000
"""Positions of the choosing text that lengths are chosen on."""


def sketch(config: SketchConfig, out: Path, say: Say = silent, progress: Progress = silent) -> SketchRecord:
    """Sketch a talker into a folder, and return its record.

    1. Read the texts: fit on one, choose on another, report on a third.
    2. Let the talker read them, and keep all that it says.
    3. Search for the sketch, rank its gears, and measure it on the reporting text.
    4. Write the file, run it, and compare what it says with what was fitted.

    Raises:
        EnglishRoomError: a text, the talker or a setting will not do, or the place to write to.
    """
    from englishroom.sketch.folder import check_place

    config.validate()
    check_apart(config.talker, out)
    check_place(out)
    with locked(out):
        return _sketch(config, out, say, progress)


def _sketch(config: SketchConfig, out: Path, say: Say, progress: Progress) -> SketchRecord:
    """Sketch a talker into a folder that no other run writes to."""
    from englishroom.sketch.checkpoint import load, save
    from englishroom.sketch.folder import SHARE, write_sketch
    from englishroom.sketch.rank import rank_gears
    from englishroom.sketch.sampling import listen
    from englishroom.sketch.search import search
    from englishroom.sketch.studio import Ask, Studio

    for text_name in (*config.fit, config.choose, config.report):
        check_name(text_name)
    talker = open_talker(config.talker, say=say, **asdict(config.opening))
    texts = TalkerTexts([talker], config.blank_lines, say, progress)
    fit, choose = texts.joined(config.fit, "--fit"), texts.open(config.choose, "--choose")
    report = texts.open(config.report, "--report")
    for first, second in ((fit, report), (choose, report), (fit, choose)):
        check_overlap(first.name, document_marks(first.documents), second)
    if hasattr(talker, "target") and (rising := rising_loss(talker, fit.documents, run_on=False)):
        say(rising)

    def heard(text: Text, positions: int, ends: bool = False) -> Heard:
        step = f"listening to {config.talker}: {text.name}"
        return listen(talker, text.documents, positions, ends, partial(progress, step))

    ask = Ask(config.share, config.lines, config.words, config.kinds)
    studio = Studio(
        talker.tokenizer,
        heard(fit, config.positions, ends=True),
        heard(choose, JUDGED_POSITIONS),
        talker.n_ctx,
        ask,
        progress,
    )
    about = {part: t.about() for part, t in (("fit", fit), ("choose", choose), ("report", report))}
    settings = config.plain()
    hashes = {part: text["sha256"] for part, text in about.items()}
    identity = {"config": settings, "texts": hashes, "talker": talker_sha256(config.talker, talker)}
    growing = Kept(out.absolute().with_name(f"{out.name}.part.npz"), identity)
    if before := load(growing, studio.start()):
        say(f"going on from {growing.path.name}")
    found = search(studio, lambda growth: save(growing, growth), before)
    heard_report = heard(report, config.report_positions)
    sample = studio.sample(heard_report, "reading to report")
    judged, chosen = studio.judge(found.votes, sample), studio.judge(found.votes, studio.choose)
    rows = rank_gears(found.votes, studio, sample, partial(progress, "ranking gears"))
    tables = studio.tables(found.votes)
    summary_lines = _summary_lines(talker.name, judged, report, tables.n_entries)
    remarks = {row.gear: f"Adds {row.adds_nats:.3f} nats to the gears before it." for row in rows}
    text = studio.text(found.votes, summary_lines, remarks)
    gap = _run_file(text, talker, studio.answers(found.votes, sample), heard_report, progress)
    record = write_sketch(
        out,
        text,
        talker.tokenizer,
        {
            "talker": talker.name,
            "n_ctx": talker.n_ctx,
            "share": judged.share,
            "share_is": SHARE,
            "share_of_choosing_text": chosen.share,
            "asked_share": config.share,
            "asked_lines": config.lines,
            "kept": found.kept,
            "lines": text.count("\n"),
            "characters": len(text),
            "entries": tables.n_entries,
            "kl_talker_sketch": judged.kl,
            "kl_talker_unigram": judged.unigram_kl,
            "cross_entropy": studio.cross_entropy(found.votes, sample, heard_report.targets),
            "talker_cross_entropy": heard_report.cross_entropy,
            "file_vs_fit_nats": gap,
            "gears": [asdict(row) for row in rows],
            "search": [asdict(point) for point in found.path],
            "texts": about,
            "config": settings,
            "versions": versions_of(),
        },
    )
    growing.path.unlink(missing_ok=True)
    return record


def _summary_lines(name: str, judged: Judged, report: Text, entries: int) -> list[str]:
    """Say what the file is, how much it holds, and how it is read."""
    paragraphs = [
        f"A sketch of {name}: it tells stories with {entries:,} votes, and nothing but Python 3.11.",
        "",
        f"It keeps {judged.share:.1%} of what {name} does: 1 - {judged.kl:.3f} / {judged.unigram_kl:.3f}, in nats per "
        f"token KL({name}‖sketch) and KL({name}‖unigram), which knows how frequent words are (on {report.name}).",
        "",
        'To hear it: python sketch.py "Once upon a time" --seed 1',
        "To read it: a gear looks at the story and names keys. The row of a key in its table adds votes, of half a "
        "nat each, to the words behind the number, or to all words of a @kind; last, votes become probabilities. "
        "Words are written without the space before them, `_ing` is one that has none, `¶` ends a line. Gears and rows "
        f"stand in the order of what they matter. Written by englishroom {englishroom.__version__}.",
    ]
    return [line for paragraph in paragraphs for line in textwrap.wrap(paragraph, LINE_WIDTH) or [""]]


def _run_file(
    text: str, talker: Talker, expected: Iterator[NDArray[np.float64]], heard: Heard, progress: Progress
) -> float:
    """Run what will be written in a bare Python, and return how far it is from what was fitted, in nats.

    Raises:
        ConfigError: it is further away than rounding can explain.
    """
    from englishroom.evaluate.talkers.sketch import SketchTalker
    from englishroom.sketch.folder import SOURCE

    gap = 0.0
    checked = list(zip(heard.windows, heard.counted, strict=True))[:CHECKED_WINDOWS]
    with SketchTalker(Path(SOURCE), text, talker.tokenizer, talker.n_ctx) as running:
        for done, (window, counted) in enumerate(checked):
            for answer in running.log_probs(np.array([window]))[0, counted:]:
                gap = max(gap, float(np.abs(next(expected) - answer).max()))
            progress("running sketch.py", done + 1, len(checked))
    if not gap <= TOLERANCE_NATS:
        raise ConfigError(f"the written sketch differs from the fitted one by {gap:.2g} nats; please report it")
    return gap
