"""What every decompilation with dictionaries begins with: its work folder, its texts, and the fit of the dictionaries.

The folder OUT.work beside the room holds what a killed run needs to go on: sampled texts, the fit's checkpoint, and
what was already measured. It is removed once the room stands.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from englishroom.data.corpus import BlankLines
from englishroom.data.texts import PARTS, READY, Text, check_name, open_text, part_file
from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.formats import read_dictionaries
from englishroom.dictionaries.joint_fit import Fit, featured_specs, fit
from englishroom.dictionaries.replacement import Replacement
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.errors import ConfigError
from englishroom.evaluate.baselines import check_texts
from englishroom.evaluate.config import SampleOptions, SampleTextConfig
from englishroom.evaluate.rising_loss import rising_loss
from englishroom.evaluate.sample_file import PARTS_RECORD, SampledModel, write_parts, write_sample
from englishroom.evaluate.sample_warnings import blank_lines_of, warnings_of
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.ir.tokenizer import Tokenizer
from englishroom.models.load import Target
from englishroom.pipeline.config import OWN_SAMPLES, DecompileConfig
from englishroom.pipeline.measuring import Texts
from englishroom.pipeline.texts import TalkerTexts
from englishroom.sparse.start import dictionaries_of
from englishroom.steps import Progress, Say
from englishroom.work import Work


def check_dictionaries(config: DecompileConfig, target: Target) -> None:
    """Refuse dictionaries to start from that a program of this target cannot be made of, before any work.

    Raises:
        ConfigError: their sites or sizes are not the target's, two are for the same sites, or the level needs others.
    """
    config.validate_for(target.spec)
    if (folder := config.dictionaries.folder) is None:
        return
    given = read_dictionaries(folder)
    counted = Counter((d.spec.reads, d.spec.writes) for d in given)
    for (reads, writes), count in counted.items():
        if count > 1:
            raise ConfigError(
                f"{folder}: {count} dictionaries that read {reads} and write {', '.join(writes)}, expected one; leave "
                "the others out of the folder"
            )
    replacement = Replacement(target.spec, target.weights, tuple(given))
    if config.level == "sparse":
        dictionaries_of(replacement)


@dataclass(frozen=True)
class Fitting:
    """All that it takes to read or sample the texts and to fit the dictionaries."""

    config: DecompileConfig
    target: Target
    tokenizer: Tokenizer
    work: Work
    say: Say
    progress: Progress

    def texts(self) -> Texts:
        """Read the three texts; those that are not given are samples of the target."""
        config = self.config.texts
        names = {"fit": config.fit, "choose": (config.choose,), "report": (config.report,)}
        given = {part: [name for name in named if name] for part, named in names.items()}
        for name in chain.from_iterable(given.values()):
            check_name(name)
        talker = TargetTalker(self.target, self.tokenizer)
        reader = TalkerTexts([talker], config.blank_lines, self.say, self.progress)
        limits = {"report": config.report_documents}
        opened = {
            part: Text.joined([reader.open(name, f"--{part}", limits.get(part)) for name in named])
            for part, named in given.items()
            if named
        }
        own, warnings = ({}, ()) if all(given.values()) else self.own_texts(talker)
        for part in PARTS:
            if part not in opened:
                opened[part] = reader.spelled(self._open_own(own[part], part, limits.get(part)), part)
        found = Texts(opened["fit"], opened["choose"], opened["report"], warnings)
        check_texts(found.fit, found.choose, found.report)
        if rising := rising_loss(talker, found.fit.documents, run_on=True):
            self.say(rising)
        self.say(f"fitting on {found.fit.name}, reporting on {found.report.name}")
        return found

    def measured_on(self, texts: Texts) -> Work:
        """Return the work that belongs to these very documents, whatever the texts are called."""
        return self.work.of(texts={part: about["sha256"] for part, about in texts.about().items()})

    def own_texts(self, talker: TargetTalker) -> tuple[dict[str, str], tuple[str, ...]]:
        """Name texts that the target told: the ready corpus where it is the target's and large enough, or new ones.

        Returns:
            The names, and what the texts cannot stand for.
        """
        target, sizes = self.target, self.config.texts.samples
        if ready_source() == target.sha256 and len(open_text(f"{READY}:fit").documents) >= sizes[0]:
            return {part: f"{READY}:{part}" for part in PARTS}, ()
        folder = self.work.folder / "texts"
        if not (folder / PARTS_RECORD).exists():  # it is written last
            self.say(f"sampling {sum(sizes):,} documents from {target.name}")
            source = SampledModel(target.name, target.sha256)
            config = SampleTextConfig(parts=sizes, drawing=own_options(self.config.seed))
            write_parts(talker, source, config, folder, self.progress)
        warnings = tuple(warnings_of(target.name, self._record(folder)))
        for line in warnings:
            self.say(f"warning: {line}")
        return {part: str(part_file(folder, part)) for part in PARTS}, warnings

    def _record(self, folder: Path) -> dict[str, Any]:
        """Read what is recorded of the samples to fit on."""
        return json.loads((folder / PARTS_RECORD).read_text())["parts"]["fit"]

    def _open_own(self, name: str, part: str, limit: int | None) -> Text:
        """Open a text that the target told, as it told it, or collapsed where that changes next to nothing."""
        if name.startswith(READY):
            return open_text(name, self.progress, limit)
        asked = self.config.texts.blank_lines
        how = blank_lines_of(self._record(Path(name).parent)) if asked == "auto" else asked
        text = open_text(name, self.progress, limit, how)
        return replace(text, name=text.name.replace(name, f"{OWN_SAMPLES} {self.target.name}, {part}", 1))

    def fitted(self, texts: Texts) -> Replacement:
        """Fit the dictionaries, or go on with a fit that was killed."""

        target, config = self.target, self.config
        given = [] if config.dictionaries.folder is None else read_dictionaries(config.dictionaries.folder)
        specs = tuple(d.spec for d in given) or featured_specs(target.spec, config.dictionaries)
        identity = {"target": target.sha256, "text": texts.fit.sha256, "given": weights_sha256(given)}
        rows = TokenRows.of(self.tokenizer, texts.fit.documents, target.spec.n_ctx)
        run = Fit(target, specs, rows, config.fit, identity, given, config.seed)
        self.say(f"fitting {len(specs)} dictionaries: {run.n_local:,} steps apart, {run.n_joint:,} together")

        def show(run: Fit, _loss: float) -> None:
            if run.step <= run.n_local:
                self.progress("fitting apart", run.step, run.n_local)
            else:
                self.progress("fitting together", run.step - run.n_local, run.n_joint)

        return fit(run, self.work.folder / "fit.pt", show)


def own_options(seed: int) -> SampleOptions:
    """Return how a target is sampled for its own decompilation."""
    return SampleOptions(seed=seed, precision="float32")


def sampled_again(
    talker: TargetTalker, seed: int, n_documents: int, progress: Progress, blank_lines: BlankLines = "collapse"
) -> Text:
    """Return the first documents that a target told to be fitted on; they are not kept, and sampled again."""
    source = SampledModel(talker.target.name, talker.target.sha256)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fit.txt"
        config = SampleTextConfig(documents=n_documents, drawing=own_options(seed))
        write_sample(talker, source, config, file, progress)
        text = open_text(file, blank_lines=blank_lines)
    return replace(text, name=f"{OWN_SAMPLES} {source.name}, fit (first {n_documents:,} documents)")


def ready_source() -> str:
    """Return the hash of the model that the ready corpus was sampled from."""
    record = json.loads((resources.files("englishroom.data") / "ready" / "parts.json").read_text())
    return str(record["model"]["sha256"])


def weights_sha256(dictionaries: Sequence[Dictionary]) -> str:
    """Hash the weights of dictionaries."""
    digest = hashlib.sha256()
    for dictionary in dictionaries:
        for name, tensor in sorted(dictionary.weights.items()):
            digest.update(name.encode() + np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()
