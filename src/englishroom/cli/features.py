"""englishroom features"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from englishroom.cli.output import print_table, say, show
from englishroom.errors import ArtifactError, ConfigError
from englishroom.plain import storable

if TYPE_CHECKING:
    import pyarrow as pa

    from englishroom.dictionaries.evidence.latent_evidence import About
    from englishroom.ir.tokenizer import Tokenizer
    from englishroom.store import StoredRoom

LISTED = ("id", "reads", "writes", "layer", "latent", "dead", "firing", "density", "mean", "max", "label")
"""Columns of the table of latents that the list gives as JSON; the table shows some of them."""
BAR = 40
"""Characters of the longest bar of a histogram."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Command:
    """List the features of a room, or look at one of them: what it fires on, and what it votes for."""

    room: tyro.conf.Positional[Path]
    """A room with evidence of its features."""
    feature: tyro.conf.Positional[str] = ""
    """A feature to look at, like rule.1.240 or moved.0.17 (layer, number); or a site, its number next."""
    latent: tyro.conf.Positional[int | None] = None
    """Number of the latent, where a site is given: blocks.1.hook_mlp_out 240."""
    sort: Literal["layer", "latent", "density", "firing", "mean", "max", "id", "label"] = "layer"
    """What the list is sorted by; what is never active comes last when sorted by mean or max."""
    descending: bool = False
    """Sort the highest first."""
    site: str = ""
    """List only features that read or write this site."""
    limit: int = 40
    """Features to list; 0 lists all."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        if self.limit < 0:
            raise ConfigError(f"--limit is {self.limit}, expected 0 (all) or more")
        if self.feature:
            self._detail()
        else:
            self._list()

    def _list(self) -> None:
        import json

        import pyarrow as pa

        _, about, table = _open(self.room)
        chosen = _sorted(table, _touching(table, self.site), self.sort, self.descending)
        shown = pa.array(chosen[: self.limit or None], pa.int64())
        rows = table.select(LISTED).take(shown).to_pylist()
        if self.json:
            show(json.dumps(storable({"room": str(self.room), "about": asdict(about), "features": rows}), indent=1))
            return
        title = f"{self.room}: {len(chosen):,} features; {about.positions:,} positions of text read"
        print_table(title, ("feature", "label", "density", "mean", "max"), [_cells(row) for row in rows], 2)
        if len(rows) < len(chosen):
            say(f"the first {len(rows):,} of {len(chosen):,} features; --limit 0 lists all")

    def _detail(self) -> None:
        import json

        from englishroom.dictionaries.evidence.latent_evidence import read_examples
        from englishroom.ir.tokenizer_json import tokenizer_from_json
        from englishroom.names import EXAMPLES, TOKENIZER

        room, about, table = _open(self.room, (EXAMPLES, TOKENIZER))
        tokenizer = tokenizer_from_json(room.text(TOKENIZER), str(self.room / TOKENIZER))
        if len(tokenizer.pieces) != about.d_vocab:
            raise ArtifactError(
                f"{self.room / TOKENIZER}: {len(tokenizer.pieces)} tokens, the evidence has {about.d_vocab}; "
                "decompile again"
            )
        row = _find(table, self.feature, self.latent)
        examples = read_examples(room.contents[EXAMPLES], str(self.room / EXAMPLES), about, row)
        feature = _described(table, row, examples, tokenizer)
        if self.json:
            show(json.dumps(storable({"room": str(self.room), "about": asdict(about), "feature": feature}), indent=1))
            return
        for line in _lines(feature, about):
            show(line)


def _open(path: Path, more: Sequence[str] = ()) -> tuple[StoredRoom, About, pa.Table]:
    """Read the table of latents of a room, and whatever other files are needed."""
    from englishroom.dictionaries.evidence.latent_evidence import read_latents
    from englishroom.names import EXAMPLES, LATENTS
    from englishroom.store import read_manifest, read_room

    manifest = read_manifest(path)
    for name in (LATENTS, EXAMPLES):
        if name not in manifest.files:
            raise ArtifactError(
                f"{path}: no evidence of features in this room (level {manifest.level}, found no {name}); "
                "give a room of a featured program"
            )
    room = read_room(path, (LATENTS, *more))
    return room, *read_latents(room.contents[LATENTS], str(path / LATENTS))


def _sites(table: pa.Table) -> list[str]:
    written = (site for writes in table.column("writes").to_pylist() for site in writes)
    return sorted({*table.column("reads").unique().to_pylist(), *written})


def _touching(table: pa.Table, site: str) -> list[int]:
    """List the features that read or write a site; all where none is named."""
    if not site:
        return list(range(len(table)))
    pairs = zip(table.column("reads").to_pylist(), table.column("writes").to_pylist(), strict=True)
    found = [at for at, (reads, writes) in enumerate(pairs) if site == reads or site in writes]
    if not found:
        raise ConfigError(f"--site {site}: no feature reads or writes it; sites: {', '.join(_sites(table))}")
    return found


def _sorted(table: pa.Table, chosen: Sequence[int], by: str, descending: bool) -> list[int]:
    """Sort rows by a column; those without a value come last either way."""
    values = table.column(by).to_pylist()
    known = sorted((at for at in chosen if values[at] is not None), key=values.__getitem__, reverse=descending)
    return known + [at for at in chosen if values[at] is None]


def _find(table: pa.Table, feature: str, latent: int | None) -> int:
    """Return the row of a feature, named by its id or by a site and a number."""
    if not len(table):
        raise ConfigError(f"{feature}: no such feature; the room has none")
    wanted = feature if latent is None else f"{feature}.{latent}"
    row = table.column("id").index(wanted).as_py()
    if row >= 0:
        return row
    numbers = table.column("latent").to_pylist() if latent is not None else []
    same = [at for at, number in enumerate(numbers) if number == latent]
    found = [at for at in same if feature in table.column("writes")[at].as_py()]
    if len(found) == 1:
        return found[0]
    ids = table.column("id")
    if found:
        raise ConfigError(
            f"{feature} {latent}: could be {' or '.join(str(ids[at]) for at in found)}; give one of these"
        )
    raise ConfigError(
        f"{feature}{'' if latent is None else f' {latent}'}: no such feature; give one like {ids[0]}, "
        f"or a site and the number of a latent (sites: {', '.join(_sites(table))})"
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    numbers = ("-" if row[name] is None else f"{row[name]:.3g}" for name in ("mean", "max"))
    return str(row["id"]), str(row["label"]), f"{row['density']:.3%}", *numbers


def _described(table: pa.Table, row: int, examples: pa.Table, tokenizer: Tokenizer) -> dict[str, Any]:
    """Put everything known of one feature together, tokens spelled out."""
    from englishroom.dictionaries.evidence.label import escaped, spelled

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
