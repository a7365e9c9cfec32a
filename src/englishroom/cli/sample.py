"""englishroom sample"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from englishroom.cli.output import progress_bar, say, show
from englishroom.errors import ConfigError
from englishroom.pipeline.config import TalkerOpening
from englishroom.talkers.shipped import DEFAULT

DEFAULT_DOCUMENTS = 1000


@dataclass(frozen=True)
class Command:
    """Sample documents from a room or a model into a text file; run again to go on after a kill."""

    out: Path
    """Text file to write (.txt or .xz), its record beside it (.json); with --parts, the folder for them."""
    talker: tyro.conf.Positional[str] = DEFAULT
    """A room, a shipped model, a model folder or .bin file, or a hub name."""
    documents: int | None = None
    """Documents to sample; 1000 by default. Those without text are left out."""
    parts: tuple[int, int, int] | None = None
    """Write a corpus of three parts without a common document instead, of so many documents to fit on, to choose
    settings on, and to report on, sampled with the seed and the two after it."""
    seed: int = 0
    """The same seed gives the same documents."""
    temperature: float = 1.0
    """1 is the talker's own distribution; below 1 keeps to the likely, 0 always takes the likeliest."""
    max_tokens: int | None = None
    """Cut a document after so many tokens; by default where the context ends."""
    unfinished: Literal["keep", "drop"] = "keep"
    """Keep or drop documents that were cut; without them, short ones are more frequent than they should be."""
    blank_lines: Literal["keep", "collapse"] = "keep"
    """Write documents as they were said, or with white space around line ends, blank lines included, collapsed to one
    newline."""
    precision: Literal["float64", "float32"] = "float64"
    """Precision of a model; float32 is twice as fast, but a document may then differ from one processor to the next."""
    opening: TalkerOpening = TalkerOpening()

    def run(self) -> None:
        if self.parts is not None and self.documents is not None:
            raise ConfigError("--parts says how many documents each part has; leave --documents out")

        from englishroom.evaluate.sample import SampleOptions
        from englishroom.evaluate.sample_file import PARTS_RECORD, check_file, check_folder, write_parts, write_sample
        from englishroom.evaluate.sample_warnings import warnings_of
        from englishroom.pipeline import open_talker

        options = SampleOptions(self.seed, self.temperature, self.max_tokens, self.precision)
        options.check()
        (check_file if self.parts is None else check_folder)(self.out)
        talker = open_talker(self.talker, say=say, dtype=self.precision, **asdict(self.opening))
        if self.opening.context is not None:  # the record says where documents were cut
            options = replace(options, max_tokens=min(talker.n_ctx, self.max_tokens or talker.n_ctx))
        source = _source(self.talker, talker)
        with progress_bar() as progress:
            if self.parts is not None:
                record = write_parts(
                    talker, source, options, self.parts, self.out, self.unfinished, self.blank_lines, progress
                )
                counts = {self.out / part["file"]: part for part in record["parts"].values()}
            else:
                n_documents = DEFAULT_DOCUMENTS if self.documents is None else self.documents
                record = write_sample(
                    talker, source, options, n_documents, self.out, self.unfinished, self.blank_lines, progress
                )
                counts = {self.out: record}
        for file, part in counts.items():
            for line in warnings_of(self.talker, part, self.max_tokens is not None):
                say(f"warning: {line}")
            show(f"wrote {file}: {_summary(part)}")
        if self.parts is not None:
            show(f"wrote {self.out / PARTS_RECORD}")


def _source(name_or_path: str, talker: Any) -> Any:
    """Name what is sampled: a room by its manifest, a model by its weights."""
    from englishroom.evaluate.sample_file import SampledModel
    from englishroom.evaluate.talkers.sketch import SketchTalker
    from englishroom.evaluate.talkers.target import TargetTalker
    from englishroom.store import read_manifest, sha256

    if isinstance(talker, TargetTalker):
        return SampledModel(talker.target.name, talker.target.sha256)
    if isinstance(talker, SketchTalker):
        return SampledModel(talker.name, sha256(talker.source.encode()))
    return SampledModel(talker.name, read_manifest(Path(name_or_path)).sha256)


def _summary(counts: dict[str, Any]) -> str:
    """Say what became of the sampled documents."""
    cut = counts["sampled_unfinished"]
    dropped = {
        "without text": counts["dropped_empty"],
        "cut short": counts["dropped_unfinished"],
        "standing in an earlier part": counts["dropped_in_earlier_part"],
    }
    left_out = ", ".join(f"{count:,} {why}" for why, count in dropped.items() if count)
    return (
        f"{counts['documents']:,} documents, {counts['bytes']:,} bytes; "
        f"{cut:,} of {counts['sampled_documents']:,} sampled were cut before their end"
        + (f"; left out: {left_out}" if left_out else "")
    )
