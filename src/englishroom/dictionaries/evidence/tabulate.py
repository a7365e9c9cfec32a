"""Make the tables of evidence out of a harvest and the weights of its dictionaries.

1. Directions: what each latent votes for, and its nearest neighbours.
2. Tokens that it fires on, from the counted pairs.
3. Labels out of the two.
4. Examples in bands: the strongest, and those drawn, cut into equal parts by their activation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.dictionaries.evidence import latent_evidence
from englishroom.dictionaries.evidence.config import EDGES
from englishroom.dictionaries.evidence.directions import Ranked, nearest, strongest_votes
from englishroom.dictionaries.evidence.examples import NO_TOKEN, joined, ranks
from englishroom.dictionaries.evidence.harvest import Harvest
from englishroom.dictionaries.evidence.label import label, spelled, unique
from englishroom.dictionaries.evidence.tally import LatentTally
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ConfigError
from englishroom.ir.tokenizer import Tokenizer

EXCITING, PROMOTED = 3, 2
"""Tokens of either kind in a label, at most."""
WORTH_NAMING = 0.25
"""A token is named in a label if it says at least this share of what the best one does."""
_LAYER = re.compile(r"blocks\.(\d+)\.")


def tabulate(
    replacement: Replacement, found: Harvest, tokenizer: Tokenizer, text: Mapping[str, Any] | None = None
) -> latent_evidence.LatentEvidence:
    """Put everything known of each latent into two tables.

    Args:
        found: a harvest of this replacement.
        text: what to say of the text that was read (name, hash), kept beside the tables.

    Raises:
        ConfigError: no position was read, or harvest, tokenizer and replacement do not belong together.
    """
    _check(replacement, found, tokenizer)
    latents, examples, row = [], [], 0
    for dictionary in replacement.dictionaries:
        tally = found.tallies[dictionary.spec.name]
        latents.append(_latents(replacement, dictionary, found, tally, tokenizer))
        examples.append(_examples(tally, row))
        row += dictionary.spec.n_latents
    table = pa.concat_tables(latents).combine_chunks()
    labels = pa.array(unique(table["label"].to_pylist()))
    table = table.set_column(table.column_names.index("label"), "label", labels)
    about = latent_evidence.About(
        latent_evidence.EVIDENCE_VERSION,
        found.clean,
        dict(text or {}),
        found.positions,
        replacement.spec.d_vocab,
        list(EDGES),
        asdict(found.config),
    )
    return latent_evidence.LatentEvidence(about, table, pa.concat_tables(examples).combine_chunks())


def _check(replacement: Replacement, found: Harvest, tokenizer: Tokenizer) -> None:
    sizes = {dictionary.spec.name: dictionary.spec.n_latents for dictionary in replacement.dictionaries}
    harvested = {name: tally.n_latents for name, tally in found.tallies.items()}
    if not sizes or sizes != harvested:
        raise ConfigError(f"evidence: harvested of {harvested}, expected {sizes or 'at least one dictionary'}")
    if not found.positions:
        raise ConfigError("evidence: no position was read; give rows of tokens whose mask is not empty")
    if len(tokenizer.pieces) != replacement.spec.d_vocab:
        raise ConfigError(
            f"evidence: the tokenizer has {len(tokenizer.pieces)} tokens, the model {replacement.spec.d_vocab}; "
            "give the model's own tokenizer"
        )


def feature_prefix(spec: DictionarySpec) -> str:
    """Return what the ids of a dictionary's features begin with.

    An attention-output SAE of layer 0 makes ``moved.0``, a transcoder of layer 1 ``rule.1``; others keep their name.
    """
    layer = _LAYER.match(spec.reads)
    if layer and spec.reads.endswith(".hook_attn_out") and spec.writes == (spec.reads,):
        return f"moved.{layer[1]}"
    if layer and (spec.reads, spec.writes) == (f"{layer[0]}ln2.hook_normalized", (f"{layer[0]}hook_mlp_out",)):
        return f"rule.{layer[1]}"
    return spec.name


def _latents(
    replacement: Replacement, dictionary: Dictionary, found: Harvest, tally: LatentTally, tokenizer: Tokenizer
) -> pa.Table:
    spec, n = dictionary.spec, dictionary.spec.n_latents
    silent, fired = tally.firing == 0, _fired_on(tally, found)
    votes = strongest_votes(replacement.spec, replacement.weights, dictionary, found.config.listed_tokens)
    layer = _LAYER.match(spec.writes[0])
    columns: dict[str, Any] = {
        "id": [f"{feature_prefix(spec)}.{latent}" for latent in range(n)],
        "label": _labels(fired, votes[0] if votes else None, n, tokenizer),
        "reads": [spec.reads] * n,
        "writes": [list(spec.writes)] * n,
        "layer": [int(layer[1]) if layer else None] * n,
        "latent": np.arange(n),
        "dead": silent,
        "firing": tally.firing,
        "density": tally.firing / found.positions,
        "mean": pa.array(tally.sums / np.maximum(tally.firing, 1), mask=silent),
        "max": pa.array(tally.maxima.astype(np.float64), mask=silent),
        "histogram": _even_lists(tally.histogram),
    }
    listed = fired.first(found.config.listed_tokens, by=fired.counts)
    for name, values in (("", listed.tokens), ("_counts", listed.counts), ("_seen", listed.seen)):
        columns[f"fires_on{name}"] = _lists(values, np.bincount(listed.latents, minlength=n))
    nothing = Ranked(np.zeros((n, 0), np.int32), np.zeros((n, 0), np.float32))
    for name, ranked in zip(("promoted", "demoted"), votes or (nothing, nothing), strict=True):
        columns |= {name: _even_lists(ranked.indices), f"{name}_logits": _even_lists(ranked.values)}
    for side, vectors in (("decoder", dictionary.weights["W_dec"]), ("encoder", dictionary.weights["W_enc"].T)):
        near = nearest(vectors, found.config.neighbours)
        columns |= {f"{side}_neighbours": _even_lists(near.indices), f"{side}_cosines": _even_lists(near.values)}
    return pa.table(columns, pa.schema(latent_evidence.LATENT_COLUMNS))


@dataclass(frozen=True)
class _FiredOn:
    """Pairs of a latent and a token that it fired on, latent by latent.

    Attributes:
        counts: times the latent was active on the token.
        seen: times the token came up at all.
        scores: what the token says of the latent: count times log2 of how much likelier the token makes it.
    """

    latents: NDArray
    tokens: NDArray
    counts: NDArray
    seen: NDArray
    scores: NDArray

    def first(self, n: int, by: NDArray) -> _FiredOn:
        """Keep the tokens of every latent that have the most of something."""
        order = np.lexsort((self.tokens, -by, self.latents))
        chosen = order[ranks(self.latents[order]) < n]
        columns = (self.latents, self.tokens, self.counts, self.seen, self.scores)
        return _FiredOn(*(column[chosen] for column in columns))


def _fired_on(tally: LatentTally, found: Harvest) -> _FiredOn:
    pairs, counts = tally.pairs.settle()
    latents, tokens = np.divmod(pairs, len(found.seen))
    seen = found.seen[tokens]
    scores = counts * np.log2((counts / seen) / (tally.firing[latents] / found.positions))
    return _FiredOn(latents, tokens, counts, seen, scores)


def _labels(fired: _FiredOn, promoted: Ranked | None, n_latents: int, tokenizer: Tokenizer) -> list[str]:
    exciting: list[list[str]] = [[] for _ in range(n_latents)]
    best = fired.first(EXCITING, by=fired.scores)
    at = ranks(best.latents)
    top = best.scores[np.arange(len(at)) - at]
    for i in np.flatnonzero((at == 0) | (best.scores > WORTH_NAMING * top.clip(0))):
        exciting[best.latents[i]].append(spelled(tokenizer, int(best.tokens[i])))
    voted = [[]] * n_latents if promoted is None else promoted.indices[:, :PROMOTED].tolist()
    return [
        label(tokens, [spelled(tokenizer, vote) for vote in votes])
        for tokens, votes in zip(exciting, voted, strict=True)
    ]


def _examples(tally: LatentTally, first_row: int) -> pa.Table:
    """Lay the examples of a tally out, latent by latent; bands from the strongest down, each strongest first."""
    strongest, drawn, bands = tally.strongest.settle(), tally.drawn.settle(), tally.config.bands
    drawn = drawn.take(np.lexsort((drawn.positions, drawn.documents, drawn.values, drawn.latents)))
    sizes = np.bincount(drawn.latents, minlength=tally.n_latents)
    band = ranks(drawn.latents) * bands // np.maximum(sizes[drawn.latents], 1)
    every = joined([strongest, drawn])
    bands_of = np.concatenate([np.full(len(strongest), bands), band])
    order = np.lexsort((every.positions, every.documents, -every.values, -bands_of, every.latents))
    every, bands_of = every.take(order), bands_of[order]
    names = [f"{100 * b // bands}-{100 * (b + 1) // bands}%" for b in range(bands)] + [latent_evidence.STRONGEST]
    inside = every.tokens != NO_TOKEN
    leading = inside[:, : tally.config.before].sum(1)
    columns = {
        "feature": first_row + every.latents,
        "band": [names[b] for b in bands_of],
        "rank": ranks(every.latents * (bands + 1) + bands_of),
        "document": every.documents,
        "position": every.positions,
        "start": every.positions - leading,
        "activation": every.values,
        "tokens": _lists(every.tokens[inside], inside.sum(1)),
        "activations": _lists(every.activations[inside], inside.sum(1)),
    }
    return pa.table(columns, pa.schema(latent_evidence.EXAMPLE_COLUMNS))


def _lists(values: NDArray, lengths: NDArray) -> pa.Array:
    """Cut values into lists of some lengths."""
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), pa.array(values))


def _even_lists(rows: NDArray) -> pa.Array:
    """Turn every row of a matrix to a list."""
    return _lists(np.ascontiguousarray(rows).reshape(-1), np.full(len(rows), rows.shape[1]))
