"""Leave out of a wired model all that it can do without, part by part, and fit the rest again in between.

1. Fit the model, on rows that stay the same. The least KL(target‖program) on held-out rows that any model comes to on
   the way is what all later ones are compared with.
2. In rounds of one kind each: curves over distance become flat, or look at the word a fixed distance back alone; whole
   features and matches go, those first whose loss costs least when tried; then edges and biases, by what losing them
   costs to second order (squared weight times Fisher information). After each cut the rest is fitted.
3. A cut stays where the KL is then at most the tolerance above the least; else half as much is tried, down to one
   part. The last round of each kind is one in which not even the cheapest few could go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from englishroom.dictionaries.checkpoint import Resumable
from englishroom.dictionaries.losses import kl_nats
from englishroom.dictionaries.replacement import clean_run
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.models.forward import unembedding
from englishroom.models.load import Target
from englishroom.readable.config import SmallestConfig
from englishroom.readable.looks import divergence
from englishroom.readable.parts import Part, merged_alike, with_curve, without
from englishroom.readable.table_adam import TableAdam, size_of
from englishroom.readable.wiring import WiredModel, from_state
from englishroom.steps import Say, silent

BETAS = (0.9, 0.98)
WARM, DECAY = 0.05, 0.6
"""Shares of a fit in which its rate rises, and falls."""
LOOKS_UNTIL, LOOK_WEIGHT = 0.5, 0.3
"""Share of the first fit in which looks follow the target's attention, and how much that counts beside the KL."""
CURVES_MAY = 0.5
"""Share of the tolerance that curves may cost, so that some is left for the rest."""
FIRST_CUT, LEAST_CUT, CUT_NATS = 0.5, 0.02, 40.0
"""Shares of the edges that the first cut of edges leaves out, and the last that is tried; and by how many tolerances a
cut of features may raise the KL before the rest is fitted again."""
DRAWS, ROWS_DRAWN = 24, 8
"""Draws of words that show what edges cost, and rows in each."""
LEAST_SIZE = 0.02
"""Size that a table counts as having, where rates go by it."""
TRIES = 3
"""Parts of a kind, the cheapest first, that are tried one by one before a kind is given up."""


@dataclass(frozen=True)
class Pool:
    """Rows, and what the target says of them.

    Attributes:
        tokens, counts: [row, pos]; ``counts`` says which positions belong to the row's own document.
        logits: [row, pos, d_vocab].
        patterns: attention by layer, [row, head, pos, pos].
    """

    tokens: Tensor
    counts: Tensor
    logits: Tensor
    patterns: Mapping[int, Tensor]

    @staticmethod
    def of(target: Target, rows: TokenRows, numbers: Sequence[int]) -> Pool:
        """Run the target on some rows."""
        tokens, counts = torch.from_numpy(rows.rows(numbers)), torch.from_numpy(rows.mask(numbers))
        sites = [f"blocks.{layer}.attn.hook_pattern" for layer in range(target.spec.n_layers)]
        with torch.no_grad():
            final, values = clean_run(target.spec, target.weights, tokens, sites, attend=None)
            logits = final @ unembedding(target.spec, target.weights)
        return Pool(tokens, counts, logits, {layer: values[site] for layer, site in enumerate(sites)})

    def follows(self) -> Tensor:
        """Return the mean log-probability of what comes after each token, [token, token]."""
        size = self.logits.shape[-1]
        logs = self.logits.log_softmax(-1).flatten(0, 1)
        total = torch.zeros(size, size).index_add_(0, self.tokens.flatten(), logs.clamp(min=-10))
        return total / torch.bincount(self.tokens.flatten(), minlength=size).clamp(min=1)[:, None]

    def frequencies(self) -> Tensor:
        """Return the share of each token."""
        return torch.bincount(self.tokens.flatten(), minlength=self.logits.shape[-1]) / self.tokens.numel()


class Shrinking(Resumable):
    """A wired model that is made smaller round by round; saved and restored as a whole.

    Args:
        identity: whatever must be the same for a checkpoint to belong to this run.
        from_words: whether the model starts from words, and was fitted to nothing.
    """

    rate_flag = "--smallest-rate"

    def __init__(
        self,
        model: WiredModel,
        fit: Pool,
        held: Pool,
        config: SmallestConfig,
        identity: Mapping[str, Any],
        seed: int,
        from_words: bool,
        say: Say = silent,
    ) -> None:
        self.model, self.fit, self.held, self.config, self.seed = model, fit, held, config, seed
        # as many rounds as are known of: one more, until nothing is left to try
        super().__init__({**identity, "config": asdict(config), "seed": seed, "from_words": from_words}, 1)
        self.start = model if from_words else None
        self.frequencies = fit.frequencies()
        self.best = float("inf")
        self.kinds = ["curves", "alike", "features", "edges", "features", "edges"]
        self.size: float | None = None  # how much the next round of this kind tries to cut
        self.kept: set[Part] = set()  # what could not go in rounds of this kind
        self.fixed: dict[str, Tensor] = {}  # of vectors, which entries train no more
        self._say = say

    def update(self) -> float:
        """Take one round and return the KL(target‖program) on held-out rows, nats per token."""
        if not self.step:
            self.model = self._fitted(self.model, self.config.first_steps)
            self.best = self._loss(self.model)
        else:
            kinds = {"curves": self._curves, "alike": self._alike, "features": self._parts, "edges": self._edges}
            kinds[self.kinds[0]]()
        self.step += 1
        self.n_steps = self.step + bool(self.kinds)
        return self._loss(self.model)

    # What goes.

    def _try(self, what: str, model: WiredModel, fixed: Mapping[str, Tensor] = MappingProxyType({})) -> bool:
        """Fit a smaller model, and take it where it is good enough.

        Args:
            what: is said where it is taken.
            fixed: of vectors, which entries do not train from here on.
        """
        before = dict(self.fixed)
        for name, entries in fixed.items():
            self.fixed[name] = entries | self.fixed.get(name, entries)
        anew = self.start is not None and self.kinds[0] == "curves"
        fitted = self._fitted(model, self.config.first_steps if anew else self.config.steps)
        loss = self._loss(fitted)
        self.best = min(self.best, loss)
        share = CURVES_MAY if self.kinds[0] == "curves" else 1.0
        good = loss <= self.best + share * self.config.tolerance
        if good:
            self.model = fitted
            self._say(f"{what}: KL {loss:.4f} nats")
        else:
            self.fixed = before
        return good

    def _next_kind(self) -> None:
        self.kinds.pop(0)
        self.size, self.kept = None, set()

    def _alike(self) -> None:
        """Merge features of a group that fire alike: the first takes over what the others add."""
        merged, gone = merged_alike(self.model, self._values())
        if gone:
            what = f"{len(gone)} features merged with others that fire alike"
            self._try(what, self._as_fixed(without(merged, gone, self._means(), self.frequencies)))
        self._next_kind()

    def _parts(self) -> None:
        """Leave out the features and matches that cost least."""
        means, now = self._means(), self._loss(self.model)
        costs = {part: self._loss(self._without([part], means)) - now for part in self._alive() - self.kept}
        ranked = sorted(costs, key=lambda part: costs[part])
        if not ranked or len(self.kept) >= TRIES:
            self._next_kind()
            return
        most = min(len(ranked), int(self.size or len(ranked)))
        while most > 1 and self._loss(self._without(ranked[:most], means)) - now > CUT_NATS * self.config.tolerance:
            most = most * 3 // 4
        if self._try(f"{most} of {len(ranked)} features and matches left out", self._without(ranked[:most], means)):
            self.size = 2 * most
        elif most == 1:
            self.kept.add(ranked[0])
        else:
            self.size = most // 2

    def _curves(self) -> None:
        """Have one look go by one distance alone, or by none; a model that starts from words is fitted anew with it."""
        shape = self.model.shape
        looks = {("curve", layer, head) for layer in range(shape.n_layers) for head in range(shape.n_heads)}
        left = sorted(looks - self.kept)
        if not left:
            self._next_kind()
            return
        _, layer, head = left[0]
        self.kept.add(left[0])
        for back in (1, None) if self.start else (self._usual_distance(layer, head), None):
            fixed = torch.zeros_like(self.model.vectors[f"distance.{layer}"], dtype=torch.bool)
            fixed[head] = True
            model = with_curve(self.start or self.model, layer, head, back)
            what = f"look {layer}.{head} looks {'by no distance' if back is None else f'{back} back'}"
            if self._try(what, model, {f"distance.{layer}": fixed}):
                self.start = self.start and model
                return

    def _edges(self) -> None:
        """Leave out the edges that cost least, and the biases, which become 0."""
        numbers = {
            name: tensor for name, tensor in self.model.tensors().items() if name in self.model.edges or "bias" in name
        }
        fisher = self._fisher(self.model)
        cost = {name: tensor.detach().square() * fisher[name] for name, tensor in numbers.items()}
        there = {name: tensor.detach() != 0 for name, tensor in numbers.items()}
        every = torch.cat([cost[name][there[name]] for name in cost]).sort().values
        if not len(every):
            self._next_kind()
            return
        share = self.size if self.size is not None else FIRST_CUT
        most = max(1, int(share * len(every)))
        stays = {name: of > every[min(most, len(every)) - 1] for name, of in cost.items()}
        model = self._cut({name: stays[name] for name in self.model.edges}, self._means())
        gone = {name: there[name] & ~stays[name] for name in numbers if name not in self.model.edges}
        for name, entries in gone.items():
            model.vectors[name][entries] = 0.0
        if self._try(f"{most} of {len(every)} edges and biases left out", model, gone):
            self.size = min(FIRST_CUT, 1.5 * share)
        elif most > max(1, LEAST_CUT * len(every)):
            self.size = share / 2
        else:
            self._next_kind()

    def _alive(self) -> set[Part]:
        """List the parts that can still go."""
        found: set[Part] = set()
        for name, edges in self.model.edges.items():
            group, _, layer = name.removeprefix("words.").partition(".")
            if group in ("moved", "rules", "queries"):
                group = "matches" if group == "queries" else group
                found |= {(group, int(layer), at) for at in edges.columns.unique().tolist()}
        return found

    def _without(self, parts: Sequence[Part], means: Tensor) -> WiredModel:
        return self._as_fixed(without(self.model, parts, means, self.frequencies))

    def _cut(self, kept: Mapping[str, Tensor], means: Tensor) -> WiredModel:
        return self._as_fixed(self.model.keep(kept, means, self.frequencies))

    def _as_fixed(self, model: WiredModel) -> WiredModel:
        """Give what trains no more its value back, in place."""
        for name, entries in self.fixed.items():
            model.vectors[name][entries] = self.model.vectors[name][entries]
        return model

    # How well it does.

    @torch.no_grad()
    def _loss(self, model: WiredModel) -> float:
        kl = kl_nats(self.held.logits.flatten(0, 1), model.run(self.held.tokens))[0]
        return float(kl[self.held.counts.flatten()].mean())

    @torch.no_grad()
    def _usual_distance(self, layer: int, head: int) -> int:
        """Return how far back a look looks most."""
        seen: dict[str, Tensor] = {}
        self.model.run(self.held.tokens, seen.__setitem__)
        pattern = seen[f"scores.{layer}"].softmax(-1)[:, head].mean(0)  # [here, there]
        return int(torch.stack([pattern.diagonal(-back).sum() for back in range(len(pattern))]).argmax())

    @torch.no_grad()
    def _values(self) -> Tensor:
        seen: dict[str, Tensor] = {}
        self.model.run(self.held.tokens, seen.__setitem__)
        return seen["features"]

    def _means(self) -> Tensor:
        return self._values().mean(0)

    def _fitted(self, model: WiredModel, steps: int) -> WiredModel:
        """Fit a model."""
        tables = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
        shares = {name: 1.0 if self.start else max(size_of(t), LEAST_SIZE) for name, t in tables.items()}
        adam = TableAdam(tables, shares, BETAS)
        given, model = model, model.with_tensors(adam.tables)
        rng = np.random.default_rng((self.seed, self.step))
        anew = steps == self.config.first_steps
        rate = self.config.rate if anew else self.config.rate / 2
        led = self.fit.patterns if anew and self.start and not self.fixed else {}
        for step in range(steps):
            some = torch.from_numpy(rng.choice(len(self.fit.tokens), self.config.batch))
            seen: dict[str, Tensor] = {}
            logits = model.run(self.fit.tokens[some], seen.__setitem__)
            kl = kl_nats(self.fit.logits[some].flatten(0, 1), logits)[0]
            loss = kl[self.fit.counts[some].flatten()].mean()
            if step < LOOKS_UNTIL * steps:
                for layer, pattern in led.items():
                    loss = loss + LOOK_WEIGHT * divergence(pattern[some], seen[f"scores.{layer}"]).sum()
            adam.step(loss, rate * min(1.0, (step + 1) / (WARM * steps + 1), (steps - step) / (DECAY * steps)))
            with torch.no_grad():
                for name, entries in self.fixed.items():
                    adam.tables[name][entries] = given.vectors[name][entries]
        return model.with_tensors({name: t.detach().clone() for name, t in adam.tables.items()})

    def _fisher(self, model: WiredModel) -> dict[str, Tensor]:
        """Return the mean squares of the gradients of what drawn words cost, half of them from the target.

        Those of the KL itself vanish where the model says what the target says. The other half is drawn from all words
        alike: words that are ruled out cost next to nothing until what rules them out is gone.
        """
        tables = {name: tensor.detach().clone().requires_grad_() for name, tensor in model.tensors().items()}
        model, found = model.with_tensors(tables), {name: torch.zeros_like(t) for name, t in tables.items()}
        generator = torch.Generator().manual_seed(self.seed)
        for some in torch.randperm(len(self.fit.tokens), generator=generator)[: DRAWS * ROWS_DRAWN].split(ROWS_DRAWN):
            counts = self.fit.counts[some].flatten()
            chances = self.fit.logits[some].flatten(0, 1)[counts].softmax(-1)
            chances = (chances + 1 / chances.shape[1]) / 2
            words = torch.multinomial(chances, 1, generator=generator)[:, 0]
            loss = F.cross_entropy(model.run(self.fit.tokens[some])[counts], words)
            grads = torch.autograd.grad(loss, list(tables.values()), allow_unused=True)
            for name, grad in zip(tables, grads, strict=True):
                found[name] += 0.0 if grad is None else grad.square()
        return found

    def result(self) -> WiredModel:
        """Return the model as it now is."""
        return self.model

    def state(self) -> dict[str, Any]:
        """Return all that a later run needs to go on, except the step."""
        state = {name: getattr(self, name) for name in ("n_steps", "best", "kinds", "size", "fixed")}
        start = self.start and self.start.state()
        return state | {"kept": sorted(self.kept), "model": self.model.state(), "start": start}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        for name in ("n_steps", "best", "kinds", "size", "fixed"):
            setattr(self, name, state[name])
        self.kept = set(map(tuple, state["kept"]))
        self.model = from_state(self.model.shape, state["model"])
        self.start = state["start"] and from_state(self.model.shape, state["start"])
