"""englishroom features"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from englishroom.bounds import Amount, Settings
from englishroom.cli.output import print_table, say, show
from englishroom.errors import ArtifactError, ConfigError
from englishroom.plain import storable

if TYPE_CHECKING:
    import pyarrow as pa

    from englishroom.dictionaries.evidence.latent_evidence import About
    from englishroom.store import StoredRoom

LISTED = ("id", "reads", "writes", "layer", "latent", "dead", "firing", "density", "mean", "max", "label")
"""Columns of the table of latents that the list gives as JSON; the table shows some of them."""
BAR = 40
"""Characters of the longest bar of a histogram."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Command(Settings):
    """List the features of a room, or show one of them: when it is active, and which next tokens it makes likely.

    A feature is a number that a program computes at each token of a text; at most tokens it is 0.
    """

    room: Annotated[Positional[Path], arg(metavar="ROOM")]
    """Folder of a room that "englishroom decompile --level featured" has written."""
    feature: Annotated[Positional[str], arg(metavar="[FEATURE]")] = ""
    """Feature to show, by its name in the list, such as rule.1.240 (layer 1, number 240); by default all are listed."""
    latent: Annotated[Positional[int | None], arg(metavar="[NUMBER]")] = None
    """Number of the feature, if the word before it is a site of the model: blocks.1.hook_mlp_out 240."""
    sort: Literal["layer", "latent", "density", "firing", "mean", "max", "id", "label"] = "layer"
    """Order of the list: by layer; by number in the layer (latent); by the share (density) or the number (firing) of
    tokens at which the feature is active; by its mean or greatest value there; by name (id); or by label."""
    descending: bool = False
    """Sort from high to low, not from low to high. Features that are never active come last by mean and max."""
    site: str = ""
    """List only features that read from or write to this site of the model, such as blocks.1.hook_mlp_out."""
    limit: Amount = 40
    """Most features to list; 0 lists all."""
    json: bool = False
    """Print everything as JSON, not as a table."""

    def run(self) -> None:
        self.validate()
        room, about, table = self._open()
        if self.feature:
            feature = self._described(room, about, table)
            if not self._printed_as_json(about, {"feature": feature}):
                for line in _lines(feature, about):
                    show(line)
            return
        chosen = self._chosen(table)
        every = table.select(LISTED).to_pylist()
        rows = [every[at] for at in chosen[: self.limit or None]]
        if self._printed_as_json(about, {"features": rows}):
            return
        title = f"{self.room}: {len(chosen):,} features; {about.positions:,} positions of text read"
        print_table(title, ("feature", "label", "density", "mean", "max"), [_cells(row) for row in rows], 2)
        if len(rows) < len(chosen):
            say(f"the first {len(rows):,} of {len(chosen):,} features; --limit 0 lists all")

    def _printed_as_json(self, about: About, found: dict[str, Any]) -> bool:
        if self.json:
            show(json.dumps(storable({"room": str(self.room), "about": asdict(about)} | found), indent=1))
        return self.json

    def _open(self) -> tuple[StoredRoom, About, pa.Table]:
        """Read the table of latents of the room, and whatever other files are needed."""
        from englishroom.dictionaries.evidence.latent_evidence import read_latents
        from englishroom.names import EXAMPLES, LATENTS, TOKENIZER
        from englishroom.store import read_manifest, read_room

        manifest = read_manifest(self.room)
        for name in (LATENTS, EXAMPLES):
            if name not in manifest.files:
                raise ArtifactError(
                    f"{self.room}: no evidence of features in this room (level {manifest.level}, found no {name}); "
                    "give a room of a featured program"
                )
        room = read_room(self.room, (LATENTS, EXAMPLES, TOKENIZER) if self.feature else (LATENTS,))
        return room, *read_latents(room.contents[LATENTS], str(self.room / LATENTS))

    def _chosen(self, table: pa.Table) -> list[int]:
        """List the rows of the features at the site, or of all; those without a value to sort by come last."""
        reads, writes, values = (table.column(name).to_pylist() for name in ("reads", "writes", self.sort))
        chosen = [at for at in range(len(table)) if self.site in ("", reads[at], *writes[at])]
        if self.site and not chosen:
            raise ConfigError(f"--site {self.site}: no feature reads or writes it; sites: {_sites(table)}")
        known = sorted((at for at in chosen if values[at] is not None), key=values.__getitem__, reverse=self.descending)
        return known + [at for at in chosen if values[at] is None]

    def _row(self, table: pa.Table) -> int:
        """Return the row of the feature, named by its id or by a site and a number."""
        ids, numbers, writes = (table.column(name).to_pylist() for name in ("id", "latent", "writes"))
        words = [self.feature, *([] if self.latent is None else [str(self.latent)])]
        if not ids:
            raise ConfigError(f"{self.feature}: no such feature; the room has none")
        found = [at for at, name in enumerate(ids) if name == ".".join(words)] or [
            at for at in range(len(ids)) if self.latent == numbers[at] and self.feature in writes[at]
        ]
        if not found:
            raise ConfigError(
                f"{' '.join(words)}: no such feature; give one like {ids[0]}, or a site and the number of a latent "
                f"(sites: {_sites(table)})"
            )
        if len(found) > 1:
            raise ConfigError(f"{' '.join(words)}: could be {' or '.join(ids[at] for at in found)}; give one of these")
        return found[0]

    def _described(self, room: StoredRoom, about: About, table: pa.Table) -> dict[str, Any]:
        """Put everything known of the feature together, tokens spelled out."""
        from englishroom.dictionaries.evidence.label import escaped, spelled
        from englishroom.dictionaries.evidence.latent_evidence import read_examples
        from englishroom.ir.tokenizer_json import tokenizer_from_json
        from englishroom.names import EXAMPLES, TOKENIZER

        tokenizer = tokenizer_from_json(room.text(TOKENIZER), str(self.room / TOKENIZER))
        if len(tokenizer.pieces) != about.d_vocab:
            raise ArtifactError(
                f"{self.room / TOKENIZER}: {len(tokenizer.pieces)} tokens, the evidence has {about.d_vocab}; "
                "decompile again"
            )
        row = self._row(table)
        examples = read_examples(room.contents[EXAMPLES], str(self.room / EXAMPLES), about, row)

        stored = table.slice(row, 1).to_pylist()[0]
        prefix, first = stored["id"].rpartition(".")[0], row - stored["latent"]
        feature = {name: stored[name] for name in LISTED} | {"histogram": stored["histogram"]}
        fired = zip(stored["fires_on"], stored["fires_on_counts"], stored["fires_on_seen"], strict=True)
        feature["fires_on"] = [
            {"token": token, "text": spelled(tokenizer, token), "count": count, "seen": seen}
            for token, count, seen in fired
        ]
        for way in ("promoted", "demoted"):
            feature[way] = [
                {"token": token, "text": spelled(tokenizer, token), "logits": logits}
                for token, logits in zip(stored[way], stored[f"{way}_logits"], strict=True)
            ]
        for side in ("decoder", "encoder"):
            near = zip(stored[f"{side}_neighbours"], stored[f"{side}_cosines"], strict=True)
            feature[f"{side}_neighbours"] = [
                {"id": f"{prefix}.{latent}", "cosine": cosine, "label": table.column("label")[first + latent].as_py()}
                for latent, cosine in near
            ]
        feature["examples"] = []
        for example in examples.drop_columns("feature").to_pylist():
            pieces = [tokenizer.pieces[token] for token in example["tokens"]]
            at = example["position"] - example["start"]
            parts = (pieces[:at], pieces[at : at + 1], pieces[at + 1 :])
            texts = (escaped(b"".join(part)) for part in parts)
            feature["examples"].append(example | dict(zip(("before", "text", "after"), texts, strict=True)))
        return feature


def _sites(table: pa.Table) -> str:
    written = (site for writes in table.column("writes").to_pylist() for site in writes)
    return ", ".join(sorted({*table.column("reads").unique().to_pylist(), *written}))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    numbers = ("-" if row[name] is None else f"{row[name]:.3g}" for name in ("mean", "max"))
    return str(row["id"]), str(row["label"]), f"{row['density']:.3%}", *numbers


def _lines(feature: dict[str, Any], about: About) -> Iterator[str]:
    yield f"{feature['id']}: {feature['label']}"
    yield f"  reads {feature['reads']}, writes {', '.join(feature['writes'])}"
    active = f"  active at {feature['firing']:,} of {about.positions:,} positions ({feature['density']:.3%})"
    yield active if feature["dead"] else f"{active}, mean {feature['mean']:.3g}, max {feature['max']:.3g}"
    listed = (
        ("fires on", [f"{t['text']} {t['count']:,} of {t['seen']:,}" for t in feature["fires_on"]]),
        ("promotes", [f"{t['text']} {t['logits']:+.3g}" for t in feature["promoted"]]),
        ("demotes", [f"{t['text']} {t['logits']:+.3g}" for t in feature["demoted"]]),
    )
    for what, texts in listed:
        if texts:
            yield f"  {what:9} {'  '.join(texts)}"
    for side in ("decoder", "encoder"):
        for near in feature[f"{side}_neighbours"]:
            yield f"  near by its {side}: {near['id']} (cosine {near['cosine']:.2f}) {near['label']}"
    if not feature["dead"]:
        yield "  activations"
        yield from (f"    {line}" for line in _histogram(feature["histogram"], about.edges))
    band = None
    for example in feature["examples"]:
        if example["band"] != band:
            band = example["band"]
            yield f"  {band} of the examples drawn" if band.endswith("%") else f"  {band} examples"
        place = f"document {example['document']}, position {example['position']}"
        yield (f"    {example['activation']:8.3g}  {example['before']}«{example['text']}»{example['after']}  ({place})")


def _histogram(counts: Sequence[int], edges: Sequence[float]) -> Iterator[str]:
    """Draw the bins from the first to the last that is not empty."""
    filled = [at for at, count in enumerate(counts) if count]
    most = max(counts)
    for at in range(filled[0], filled[-1] + 1):
        low = f"{edges[at - 1]:.3g}" if at else "0"
        high = f"{edges[at]:.3g}" if at < len(edges) else "inf"
        eighths = -(-8 * BAR * counts[at] // most)
        bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
        yield f"{low:>8} to {high:<8} {bar:{BAR}} {counts[at]:,}"
