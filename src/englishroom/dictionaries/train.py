"""Train dictionaries on what they read and write, every one of them in the same step.

The loss of a dictionary is the share of its sites' variance that it leaves unexplained (FVU), so that sites of any
scale weigh the same. Latents that have not fired for long are revived by an auxiliary loss: what the dictionary still
gets wrong is predicted from the dead latents that come closest to firing (Gao et al. 2024). Decoder rows keep unit
length, so that a latent's value is how much it writes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from englishroom.dictionaries.code import Codes, JumpMap, batch_top_codes, decode, find_codes, find_codes_by_shortlist
from englishroom.dictionaries.config import TrainerConfig
from englishroom.dictionaries.dictionary import Dictionary

LEAST_VARIANCE = 1e-3
"""Share of the largest site's variance that every site counts as having, so that a constant one does no harm."""
EXEMPLAR_NOISE = 0.3
"""Length of the random part of a first direction, beside 1 for the example's."""
FACTOR_ROWS = 2048
"""Rows on which the first factor is measured."""
Values = Mapping[str, Tensor]
"""Values at sites, by their names, each [*rows, d]."""


def start_from(dictionary: Dictionary, values: Values, generator: torch.Generator) -> Dictionary:
    """Start a dictionary from examples: every latent stands for one position of a sample of values, [*rows, d].

    1. Latent j reads along what was read at its position, away from the mean, and writes along what was written there
       (an autoencoder's decoder and encoder are then the same directions).
    2. The decoder's bias is the mean of what is written; the encoder's takes the mean of what is read away.
    3. One factor on the encoder makes the first answers as good as one factor can (least squares).
    """
    spec, w = dictionary.spec, dict(dictionary.weights)
    x = values[spec.reads].reshape(-1, spec.d_in)
    y = torch.cat([values[site].reshape(-1, spec.d_out) for site in spec.writes], dim=1)
    x_off, y_off = x - x.mean(0), y - y.mean(0)
    chosen = torch.randint(len(x), (spec.n_latents,), generator=generator)
    # a little of the random directions, so that latents of equal positions (a first token, say) go different ways
    w_enc = _unit(_unit(x_off[chosen]) + EXEMPLAR_NOISE * _unit(w["W_enc"].T))
    w_dec = _unit(_unit(y_off[chosen]) + EXEMPLAR_NOISE * _unit(w["W_dec"]))
    w |= {"W_enc": w_enc.T, "b_enc": -(w_enc @ x.mean(0)), "W_dec": w_dec, "b_dec": y.mean(0)}
    slots = min(spec.k or 32, spec.n_latents)
    some = torch.randperm(len(x), generator=generator)[:FACTOR_ROWS]
    codes = find_codes(x[some], w["W_enc"], w["b_enc"], slots)
    guess = decode(codes, w_dec, torch.zeros_like(w["b_dec"]))
    factor = float((guess * y_off[some]).sum() / guess.square().sum().clamp(min=1e-12))
    factor = factor if factor > 0 else 1.0
    w["W_enc"], w["b_enc"] = w["W_enc"] * factor, w["b_enc"] * factor
    if "threshold" in w:
        least = codes.values.amin(1).mean() * factor  # about as many are above it as there are slots
        w["threshold"] = torch.full_like(w["threshold"], float(least.clamp(min=1e-6)))
    return Dictionary.of(spec, w)


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-8)


class Trainer:
    """Dictionaries in training: their weights, optimiser, and when each latent last fired.

    Args:
        dictionaries: where they start from; their weights are copied.
        variances: by site, the mean squared distance from the mean (see :func:`variances`).
        others: further tensors that train along with them, at a rate of their own: (tensor, share of the rate).
    """

    def __init__(
        self,
        dictionaries: Sequence[Dictionary],
        config: TrainerConfig,
        variances: Mapping[str, float],
        others: Sequence[tuple[Tensor, float]] = (),
    ) -> None:
        self.config = config
        self.steps = 0
        largest = max(variances.values(), default=0.0)
        self.variances = {site: max(v, LEAST_VARIANCE * largest, 1e-12) for site, v in variances.items()}
        self.dictionaries = [
            replace(d, weights={k: t.detach().clone(memory_format=torch.preserve_format) for k, t in d.weights.items()})
            for d in dictionaries
        ]
        self.slots = [d.spec.k for d in self.dictionaries]
        """Active latents per row in force; more than in the end while sparsity is annealed."""
        self.silent = [torch.zeros(d.spec.n_latents, dtype=torch.int64) for d in self.dictionaries]
        groups: list[dict[str, Any]] = []
        for d in self.dictionaries:
            trained = [t for k, t in d.weights.items() if k != "threshold" or d.spec.activation == "jumprelu"]
            groups.append({"params": [t.requires_grad_() for t in trained], "share": 1.0})
        groups += [{"params": [tensor.requires_grad_()], "share": share} for tensor, share in others]
        self.optimiser = torch.optim.Adam(groups, lr=config.rate, betas=config.betas, fused=True)
        self.parameters = [t for group in groups for t in group["params"]]

    def run(self, index: int, x: Float[Tensor, "*rows d_in"]) -> tuple[Tensor, Codes, Tensor]:
        """Run one dictionary as it trains, and note which of its latents fired.

        Returns:
            What it writes, [*rows, width]; its codes; and its loss on active latents, 0 but for ``jumprelu``.
        """
        d = self.dictionaries[index]
        w, spec = d.weights, d.spec
        flat = x.reshape(-1, spec.d_in)
        none = flat.new_zeros(())
        if spec.activation == "jumprelu":
            scale = float(w["threshold"].detach().mean().clamp(min=1e-6))
            out, count = JumpMap.apply(  # pyright: ignore[reportGeneralTypeIssues]
                flat, w["W_enc"], w["b_enc"], w["W_dec"], w["b_dec"], w["threshold"], self.config.bandwidth * scale
            )
            if spec.skip:
                out = out + flat @ w["W_skip"]
            codes = d.encode(flat)
            slots = self.slots[index]
            beyond = none if slots is None else self.config.sparsity * (count / slots - 1).clamp(min=0)
            self.note(index, codes)
            return out.view(*x.shape[:-1], -1), codes, beyond
        slots = self.slots[index]
        assert slots is not None, "only jumprelu goes without k"
        if spec.activation == "batchtopk":
            codes = self._batch_codes(d, flat, slots)
        else:
            codes = find_codes_by_shortlist(
                flat, w["W_enc"], w["b_enc"], slots, lowest=-math.inf if self.config.offer else 0.0
            )
        out, _ = d.run(x, codes, offered=self.config.offer and spec.activation == "topk")
        self.note(index, codes)
        return out, codes, none

    def _batch_codes(self, d: Dictionary, flat: Tensor, slots: int) -> Codes:
        """Keep so many latents a row on average, and let the one threshold follow the least of them."""
        wide = find_codes(flat, d.weights["W_enc"], d.weights["b_enc"], min(4 * slots, d.spec.n_latents))
        codes, bound = batch_top_codes(wide, slots * len(flat))
        with torch.no_grad():
            d.weights["threshold"].lerp_(torch.full_like(d.weights["threshold"], bound), 0.05)
        return codes

    def note(self, index: int, codes: Codes) -> None:
        """Take note of the latents that fired."""
        fired = codes.firing(len(self.silent[index])) > 0
        self.silent[index] += len(codes.counts)
        self.silent[index][fired.cpu()] = 0

    def dead(self, index: int) -> Tensor:
        """List the latents of a dictionary that have not fired for long."""
        return (self.silent[index] >= self.config.dead_after).nonzero()[:, 0]

    def local_losses(self, values: Values, given: Values | None = None) -> tuple[Tensor, list[float]]:
        """Compute the sum of all dictionaries' own losses on clean values, and the FVU of each.

        Args:
            given: what else is written, by site, and need not be learnt.
        """
        total, shares = torch.zeros(()), []
        for index, d in enumerate(self.dictionaries):
            x = values[d.spec.reads]
            out, _, beyond = self.run(index, x)
            wrong = torch.cat([values[site] for site in d.spec.writes], dim=-1) - out
            if given and any(site in given for site in d.spec.writes):
                parts = [given.get(site, torch.zeros_like(values[site])) for site in d.spec.writes]
                wrong = wrong - torch.cat(parts, dim=-1)
            fvu = wrong.pow(2).sum(-1).mean() / self.variance(d)
            shares.append(fvu.item())
            total = total + fvu + beyond + self.revival_loss(index, x, wrong)
        return total, shares

    def variance(self, d: Dictionary) -> float:
        """Return the variance of all that a dictionary writes."""
        return sum(self.variances[site] for site in d.spec.writes)

    def revival_loss(self, index: int, x: Tensor, wrong: Tensor) -> Tensor:
        """Predict, on some rows, what the dictionary gets wrong from its dead latents."""
        d, dead = self.dictionaries[index], self.dead(index)
        if not self.config.auxiliary or self.steps % self.config.auxiliary_every or not len(dead):
            return torch.zeros(())
        rows = self.config.auxiliary_rows
        w, x = d.weights, x.reshape(-1, d.spec.d_in)[:rows]
        left = wrong.detach().reshape(-1, wrong.shape[-1])[:rows]
        pre = torch.addmm(w["b_enc"][dead], x, w["W_enc"][:, dead])
        best, which = pre.topk(min(self.config.auxiliary_k, len(dead)), dim=1)
        best = best + (best.relu() - best).detach()  # those below zero write nothing, but still feel the gradient
        guess = torch.einsum("rs,rsd->rd", best, w["W_dec"][dead][which])
        return (
            self.config.auxiliary * (guess - left).pow(2).sum(-1).mean() / left.pow(2).sum(-1).mean().clamp(min=1e-12)
        )

    def step(self, loss: Tensor, rate_factor: float) -> None:
        """Follow the gradient of a loss, at a share of the peak rate, and bring decoder rows back to unit length."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate * group["share"] * rate_factor
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        self.optimiser.step()
        self.steps += 1
        with torch.no_grad():
            for d in self.dictionaries:
                rows = d.weights["W_dec"]
                rows /= rows.norm(dim=1, keepdim=True).clamp(min=1e-8)
                if "threshold" in d.weights:
                    d.weights["threshold"].clamp_(min=0)

    def trained(self) -> tuple[Dictionary, ...]:
        """Return copies of the dictionaries as they now are, which train no further."""
        return tuple(
            Dictionary.of(d.spec, {name: t.detach().clone() for name, t in d.weights.items()})
            for d in self.dictionaries
        )

    def state(self) -> dict[str, Any]:
        """Return all that a later run needs to go on."""
        return {
            "weights": [{name: t.detach() for name, t in d.weights.items()} for d in self.dictionaries],
            "silent": self.silent,
            "steps": self.steps,
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` returned."""
        with torch.no_grad():
            for d, saved in zip(self.dictionaries, state["weights"], strict=True):
                for name, tensor in d.weights.items():
                    tensor.copy_(saved[name])
        self.silent = [silent.clone() for silent in state["silent"]]
        self.steps = state["steps"]
        self.optimiser.load_state_dict(state["optimiser"])


def variances(values: Values) -> dict[str, float]:
    """Measure the mean squared distance from the mean at every site, [*rows, d]."""
    found = {}
    for site, value in values.items():
        flat = value.reshape(-1, value.shape[-1]).double()
        found[site] = float((flat - flat.mean(0)).pow(2).sum(1).mean())
    return found
