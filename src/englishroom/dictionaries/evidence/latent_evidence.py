"""Evidence on disk: a Parquet table with a row a latent, and one with a row an example. Reading needs no torch."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ConfigDict, TypeAdapter, with_config

from englishroom.dictionaries.evidence import cells
from englishroom.disk import replace_files
from englishroom.errors import ArtifactError, bounded
from englishroom.names import EXAMPLES, LATENTS
from englishroom.untrusted import ARRAY_BYTES, parse_json, read_bytes

EVIDENCE_VERSION = 1
STRONGEST = "strongest"
"""Name of the band of the strongest examples; others are named by their share of the drawn examples, ``75-100%``."""
ROWS_A_GROUP = 2**14
_KEY = b"englishroom"
_ADVICE = "harvest it again"

LATENT_COLUMNS: Mapping[str, pa.DataType] = MappingProxyType(
    {
        "id": pa.string(),
        "label": pa.string(),
        "reads": pa.string(),
        "writes": pa.list_(pa.string()),
        "layer": pa.int32(),
        "latent": pa.int32(),
        "dead": pa.bool_(),
        "firing": pa.int64(),
        "density": pa.float64(),
        "mean": pa.float64(),
        "max": pa.float64(),
        "histogram": pa.list_(pa.int64()),
        "fires_on": pa.list_(pa.int32()),
        "fires_on_counts": pa.list_(pa.int64()),
        "fires_on_seen": pa.list_(pa.int64()),
        "promoted": pa.list_(pa.int32()),
        "promoted_logits": pa.list_(pa.float32()),
        "demoted": pa.list_(pa.int32()),
        "demoted_logits": pa.list_(pa.float32()),
        "decoder_neighbours": pa.list_(pa.int32()),
        "decoder_cosines": pa.list_(pa.float32()),
        "encoder_neighbours": pa.list_(pa.int32()),
        "encoder_cosines": pa.list_(pa.float32()),
    }
)
"""Columns of the table of latents. ``firing`` is the positions at which a latent is active, ``density`` their share,
``mean`` and ``max`` of its activations there; ``fires_on_seen`` how often each token came up at all; logits are for
one unit of activation, before the final norm's scale; neighbours are latents of the same dictionary."""
EXAMPLE_COLUMNS: Mapping[str, pa.DataType] = MappingProxyType(
    {
        "feature": pa.int32(),
        "band": pa.string(),
        "rank": pa.int32(),
        "document": pa.int64(),
        "position": pa.int64(),
        "start": pa.int64(),
        "activation": pa.float32(),
        "tokens": pa.list_(pa.int32()),
        "activations": pa.list_(pa.float32()),
    }
)
"""Columns of the table of examples. ``feature`` is the row of the latent in its table; ``position`` in the document,
``start`` that of the window's first token; ``activations`` of the latent at every token of the window."""


@with_config(ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
@dataclass(frozen=True)
class About:
    """What the tables say of themselves, the same in both.

    Attributes:
        clean: whether latents were read on clean runs of the target, not with errors propagating.
        text: what the caller said of the text: its name, hash and the like.
        positions: how many were read.
        edges: of the histogram's bins, which are one more.
        config: settings of the evidence.
    """

    version: int
    clean: bool
    text: dict[str, Any]
    positions: int
    d_vocab: int
    edges: list[float]
    config: dict[str, int]


@dataclass(frozen=True)
class LatentEvidence:
    """Evidence for every latent of some dictionaries.

    Attributes:
        latents: see :data:`LATENT_COLUMNS`; the number of a row names its feature in ``examples``.
        examples: see :data:`EXAMPLE_COLUMNS`.
    """

    about: About
    latents: pa.Table
    examples: pa.Table

    def files(self) -> dict[str, bytes]:
        """Lay the tables out as files of a room, the same bytes for the same tables."""
        about = {_KEY: json.dumps(asdict(self.about), allow_nan=False).encode()}
        return {
            name: _parquet(table.replace_schema_metadata(about))
            for name, table in ((LATENTS, self.latents), (EXAMPLES, self.examples))
        }


def _parquet(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, row_group_size=ROWS_A_GROUP, compression="zstd")
    return stream.getvalue()


def write_evidence(folder: Path, evidence: LatentEvidence) -> None:
    """Write both tables into a folder, whole or not at all."""
    replace_files(folder, evidence.files())


def read_evidence(folder: Path) -> LatentEvidence:
    """Read both tables of a folder.

    Raises:
        ArtifactError: a file is missing, damaged, or not of this kind, or they do not belong together.
    """
    about, latents = read_latents(_bytes(folder / LATENTS), str(folder / LATENTS))
    return LatentEvidence(about, latents, read_examples(_bytes(folder / EXAMPLES), str(folder / EXAMPLES), about))


def read_latents(data: bytes, where: str) -> tuple[About, pa.Table]:
    """Read the table of latents.

    Args:
        where: what error messages call it, best its path.

    Raises:
        ArtifactError: damaged, or not such a table.
    """
    return _read(data, where, LATENT_COLUMNS)


def read_examples(data: bytes, where: str, about: About, feature: int | None = None) -> pa.Table:
    """Read the table of examples, or only those of one feature.

    Args:
        about: what the table of latents says of itself.

    Raises:
        ArtifactError: damaged, not such a table, or of another harvest than the latents.
    """
    found, table = _read(data, where, EXAMPLE_COLUMNS, feature)
    if found != about:
        raise ArtifactError(f"{where}: is of another harvest than {LATENTS} beside it; make both again")
    return table


def _bytes(path: Path) -> bytes:
    return read_bytes(path, "harvest the evidence again", ARRAY_BYTES)


def _read(
    data: bytes, where: str, columns: Mapping[str, pa.DataType], feature: int | None = None
) -> tuple[About, pa.Table]:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        about = _check(file.schema_arrow, where, columns)
        if (count := cells.n_cells(file)) > cells.MOST_CELLS:
            raise ArtifactError(f"{where}: {count:,} values, expected at most {cells.MOST_CELLS:,}; {_ADVICE}")
        filters = None if feature is None else pc.field("feature") == feature
        packed = pq.read_table(pa.BufferReader(data), filters=filters, read_dictionary=cells.packed_texts(columns))
        table = cells.spelled_out(packed, columns)
        faults = [*cells.cell_faults(table, about.d_vocab)]
        if not faults:
            of_latents = "latent" in columns
            faults = [*(cells.latent_faults(table, len(about.edges)) if of_latents else cells.example_faults(table))]
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise ArtifactError(f"{where}: damaged Parquet file ({bounded(str(error), 160)}); restore the file") from None
    for fault in faults:
        raise ArtifactError(f"{where}: {fault}; {_ADVICE}")
    return about, table.replace_schema_metadata()


def _check(schema: pa.Schema, where: str, columns: Mapping[str, pa.DataType]) -> About:
    raw = (schema.metadata or {}).get(_KEY)
    if raw is None:
        raise ArtifactError(f"{where}: not evidence of englishroom (its metadata is missing); harvest it again")
    values = parse_json(raw, TypeAdapter(dict[str, Any]), f"{where}: metadata", _ADVICE)
    if (version := values.get("version")) != EVIDENCE_VERSION:
        raise ArtifactError(f"{where}: version of the evidence is {version!r}, expected {EVIDENCE_VERSION}; {_ADVICE}")
    about = parse_json(raw, TypeAdapter(About), f"{where}: metadata", _ADVICE)
    found = dict(zip(schema.names, schema.types, strict=True))
    if found != dict(columns) or len(schema.names) != len(columns):
        name = next((name for name in [*columns, *found] if found.get(name) != columns.get(name)), schema.names[-1])
        raise ArtifactError(
            f"{where}: column {name}: found {found.get(name, 'none')}, expected {columns.get(name, 'none')}; "
            "harvest it again with this englishroom"
        )
    return about
