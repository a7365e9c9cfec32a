"""Read rows of tokens once and tally what every latent does.

1. Run the replacement (or the target itself) on a batch of rows; every dictionary finds its active latents.
2. Add them, at the positions that count, to the dictionary's tally.
3. Tallies of shards merge, in any order, to the tally of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from englishroom.dictionaries.code import Codes
from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.evidence.config import EvidenceConfig
from englishroom.dictionaries.evidence.masked_rows import MaskedRows
from englishroom.dictionaries.evidence.tally import LatentTally, SlotCodes
from englishroom.dictionaries.replacement import Replacement, clean_run
from englishroom.errors import ConfigError


@dataclass
class Harvest:
    """What was seen, and what each dictionary's latents did.

    Attributes:
        clean: whether the latents were read on clean runs of the target, not with errors propagating.
        positions: how many counted.
        seen: how often each token stood at a position that counted.
        tallies: by name of the dictionary.
    """

    config: EvidenceConfig
    clean: bool
    positions: int
    seen: Int[NDArray, " d_vocab"]
    tallies: dict[str, LatentTally] = field(default_factory=dict)

    def merged(self, other: Harvest) -> Harvest:
        """Return the harvest of both parts, which must not share a position.

        Raises:
            ConfigError: the parts were not made alike.
        """
        ours, theirs = self._kind(), other._kind()
        if ours != theirs:
            differing = next(name for name in ours if ours[name] != theirs[name])
            raise ConfigError(
                f"evidence: cannot merge parts of different {differing} ({ours[differing]} and {theirs[differing]}); "
                "harvest all parts alike"
            )
        tallies = {name: tally.merged(other.tallies[name]) for name, tally in self.tallies.items()}
        return Harvest(self.config, self.clean, self.positions + other.positions, self.seen + other.seen, tallies)

    def _kind(self) -> dict[str, object]:
        sizes = {name: tally.n_latents for name, tally in self.tallies.items()}
        return {"settings": self.config, "clean": self.clean, "d_vocab": len(self.seen), "dictionaries": sizes}


def harvest(
    replacement: Replacement,
    batches: Iterable[MaskedRows],
    config: EvidenceConfig | None = None,
    clean: Mapping[str, Tensor] | None = None,
) -> Harvest:
    """Tally the latents of every dictionary of a replacement in one pass over rows of tokens.

    Memory is bounded by the examples kept (``strongest + drawn`` windows a latent) and the pairs of latent and token
    that come up.

    Args:
        clean: weights of the target; where given, latents are read on clean runs of it. By default they are those
            of the replacement's own runs, in which errors propagate.

    Raises:
        ConfigError: two dictionaries have one name, or rows do not fit the model.
    """
    config = config or EvidenceConfig()
    spec = replacement.spec
    found = Harvest(config, clean is not None, 0, np.zeros(spec.d_vocab, np.int64))
    for dictionary in replacement.dictionaries:
        if dictionary.spec.name in found.tallies:
            raise ConfigError(f"evidence: two dictionaries are called {dictionary.spec.name}; keep one of them")
        found.tallies[dictionary.spec.name] = LatentTally(dictionary.spec.n_latents, spec.d_vocab, config)
    device = replacement.weights["embed.W_E"].device
    for rows in batches:
        rows.check(spec.d_vocab, spec.n_ctx)
        _read(replacement, torch.from_numpy(rows.tokens.astype(np.int64)).to(device), rows, found, clean)
        found.positions += int(rows.mask.sum())
        found.seen += np.bincount(rows.tokens[rows.mask], minlength=spec.d_vocab)
    return found


def _read(
    replacement: Replacement, tokens: Tensor, rows: MaskedRows, found: Harvest, clean: Mapping[str, Tensor] | None
) -> None:
    """Run one batch and add the codes of every dictionary."""

    def add(dictionary: Dictionary, codes: Codes) -> Codes:
        arrays = (part.cpu().numpy() for part in (codes.indices, codes.values, codes.counts))
        found.tallies[dictionary.spec.name].add(rows, SlotCodes(*arrays))
        return codes

    with torch.no_grad():
        if clean is None:
            replacement.run(tokens, code_tap=add)
            return
        sites = sorted({dictionary.spec.reads for dictionary in replacement.dictionaries})
        _, values = clean_run(replacement.spec, clean, tokens, sites)
        for dictionary in replacement.dictionaries:
            add(dictionary, dictionary.encode(values[dictionary.spec.reads]))
