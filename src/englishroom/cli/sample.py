"""englishroom sample"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from englishroom.cli.output import progress_bar, say, show
from englishroom.pipeline.commands import SampleConfig


@dataclass(frozen=True)
class Command:
    """Let a room or a model write documents at random, into a text file.

    A stopped run goes on where it was when the same command is given again.
    """

    out: Path
    """Text file to write, .txt or .xz (compressed). OUT.json beside it says how it was made. With --parts, a folder."""
    config: Annotated[SampleConfig, arg(name="")] = SampleConfig()

    def run(self) -> None:
        from englishroom.evaluate import sample_file
        from englishroom.evaluate.sample_warnings import warnings_of
        from englishroom.pipeline.opening import open_talker, talker_sha256

        config = self.config
        config.validate()
        (sample_file.check_file if config.parts is None else sample_file.check_folder)(self.out)
        talker = open_talker(config.talker, say=say, dtype=config.drawing.precision, **asdict(config.opening))
        if config.opening.context is not None:  # the record says where documents were cut
            config = config.changed(max_tokens=min(talker.n_ctx, config.drawing.max_tokens or talker.n_ctx))
        source = sample_file.SampledModel(talker.name, talker_sha256(config.talker, talker))
        with progress_bar() as progress:
            write = sample_file.write_sample if config.parts is None else sample_file.write_parts
            record = write(talker, source, config, self.out, progress)
        parts = {self.out / part["file"]: part for part in record.get("parts", {}).values()}
        for file, part in (parts or {self.out: record}).items():
            for line in warnings_of(config.talker, part, self.config.drawing.max_tokens is not None):
                say(f"warning: {line}")
            show(f"wrote {file}: {_summary(part)}")
        if parts:
            show(f"wrote {self.out / sample_file.PARTS_RECORD}")


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
