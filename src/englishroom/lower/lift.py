"""Lift a target's weights one to one into an exact program."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from englishroom.ir import program as ir
from englishroom.ir.verify import require_valid
from englishroom.models.load import Target
from englishroom.passes.base import Record


def lift(target: Target) -> tuple[ir.Program, Record]:
    """Write a target as an exact program: every weight becomes a table, every site a variable.

    1. Name the spaces: vocabulary, residual stream, heads and MLP neurons of every layer.
    2. Walk the forward pass and make one block for each of its steps.
    3. Verify, and record what was rewritten on the way from the file.

    Nothing is approximated: tables hold the target's own numbers in its own precision.
    """
    began = time.perf_counter()
    lifter = Lifter(target)
    program = require_valid(lifter.program())
    rewrites = tuple(rewrites_of(target))
    return program, Record("lift", {"target": target.name}, rewrites, time.perf_counter() - began)


def rewrites_of(target: Target) -> list[str]:
    """Name every way in which a table differs from the tensor in the file."""
    found: list[str] = []
    for name, source in target.sources.items():
        if source.endswith(".T"):
            found.append(f"transposed {source.removesuffix('.T')} into {name} [in, out]")
        elif "[" in source:
            found.append(f"split {name} out of {source}")
    if target.kind == "llama2c":
        for layer in range(target.spec.n_layers):
            found += [
                f"reordered columns of blocks.{layer}.attn.W_{letter}: rotary pairs 2i, 2i+1 to i, i + d_head/2"
                for letter in "QK"
            ]
    if target.spec.tied:
        found.append("read the logits through embed.W_E transposed (tied)")
    return found


class Lifter:
    """Walk the forward pass of a target and make a block for each of its steps."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.spec = target.spec
        self.blocks: list[ir.Block] = []
        self.spaces = [ir.Space("vocab", self.spec.d_vocab), ir.Space("resid", self.spec.d_model)]

    def program(self) -> ir.Program:
        spec = self.spec
        resid = self._embed("hook_embed", "token", "embed.W_E")
        learned = spec.rotary_theta is None
        position = self._embed("hook_pos_embed", "position", "pos_embed.W_pos") if learned else None
        for layer in range(spec.n_layers):
            resid = self._layer(layer, resid, position if layer == 0 else None)
        final = self.site("ln_final.hook_normalized", lambda name: self._norm(name, resid))
        unembed = "embed.W_E" if spec.tied else "unembed.W_U"
        logits = self._add(
            ir.Linear(
                name="hook_logits",
                space="vocab",
                reads=final,
                weight=self._table(unembed),
                transposed=spec.tied,
                origin=self._origin(unembed),
            )
        )
        self._add(ir.Vote(name="log_probs", space="vocab", reads=(logits,), origin=ir.Origin("lift")))
        return ir.Program("exact", spec.n_ctx, tuple(self.spaces), tuple(self.blocks))

    def site(self, name: str, make: Callable[[str], str]) -> str:
        """Make the variable of a site and return its name; ``make`` adds the target's own blocks under a name."""
        return make(name)

    def _layer(self, layer: int, resid: str, position: str | None) -> str:
        block = f"blocks.{layer}"

        def before(name: str) -> str:
            return resid if position is None else self._sum(name, resid, position)

        pre = self.site(f"{block}.hook_resid_pre", before)
        x = self.site(f"{block}.ln1.hook_normalized", lambda name: self._norm(name, pre))
        attn_out = self.site(f"{block}.hook_attn_out", lambda name: self._attention(layer, x, name))
        mid = self.site(f"{block}.hook_resid_mid", lambda name: self._sum(name, pre, attn_out))
        y = self.site(f"{block}.ln2.hook_normalized", lambda name: self._norm(name, mid))
        mlp_out = self.site(f"{block}.hook_mlp_out", lambda name: self._mlp(layer, y, name))
        return self.site(f"{block}.hook_resid_post", lambda name: self._sum(name, mid, mlp_out))

    def _attention(self, layer: int, x: str, name: str) -> str:
        spec, part = self.spec, f"blocks.{layer}.attn"
        q_space = self._space(f"{part}.queries", spec.n_heads * spec.d_head)
        kv_space = self._space(f"{part}.keys", spec.n_kv_heads * spec.d_head)
        q = self._linear(f"{part}.hook_q", q_space, x, part, "Q")
        k = self._linear(f"{part}.hook_k", kv_space, x, part, "K")
        v = self._linear(f"{part}.hook_v", kv_space, x, part, "V")
        if spec.rotary_theta is not None:
            q = self._rotate(f"{part}.hook_rot_q", q_space, q, spec.n_heads)
            k = self._rotate(f"{part}.hook_rot_k", kv_space, k, spec.n_kv_heads)
        z = self._add(
            ir.Attend(
                name=f"{part}.hook_z",
                space=q_space,
                queries=q,
                keys=k,
                values=v,
                n_heads=spec.n_heads,
                n_kv_heads=spec.n_kv_heads,
                scale=spec.attn_scale,
                window=spec.windows[layer],
                origin=ir.Origin("lift"),
            )
        )
        return self._linear(name, "resid", z, part, "O")

    def _mlp(self, layer: int, x: str, name: str) -> str:
        spec, part = self.spec, f"blocks.{layer}.mlp"
        space = self._space(f"{part}.neurons", spec.d_mlp)
        first = "gate" if spec.gated_mlp else "in"
        pre = self._linear(f"{part}.hook_pre", space, x, part, first)
        acted = f"{part}.hook_act" if spec.gated_mlp else f"{part}.hook_post"
        post = self._add(
            ir.Activate(name=acted, space=space, reads=pre, function=spec.activation, origin=ir.Origin("lift"))
        )
        if spec.gated_mlp:
            linear = self._linear(f"{part}.hook_pre_linear", space, x, part, "in")
            post = self._add(
                ir.Product(name=f"{part}.hook_post", space=space, reads=(post, linear), origin=ir.Origin("lift"))
            )
        return self._linear(name, "resid", post, part, "out")

    def _add(self, block: ir.Block) -> str:
        self.blocks.append(block)
        return block.name

    def _space(self, name: str, size: int) -> str:
        self.spaces.append(ir.Space(name, size))
        return name

    def _table(self, name: str) -> ir.Table:
        return ir.Table(name, self.target.weights[name].detach().numpy())

    def _origin(self, *names: str) -> ir.Origin:
        return ir.Origin("lift", tuple(self.target.sources[name] for name in names))

    def _optional(self, name: str) -> ir.Table | None:
        return self._table(name) if name in self.target.weights else None

    def _embed(self, name: str, index: Literal["token", "position"], weight: str) -> str:
        table, origin = self._table(weight), self._origin(weight)
        return self._add(ir.Lookup(name=name, space="resid", index=index, table=table, origin=origin))

    def _linear(self, name: str, space: str, reads: str, part: str, letter: str) -> str:
        names = [f"{part}.W_{letter}"]
        bias = self._optional(f"{part}.b_{letter}")
        if bias is not None:
            names.append(bias.name)
        weight = self._table(names[0])
        return self._add(
            ir.Linear(name=name, space=space, reads=reads, weight=weight, bias=bias, origin=self._origin(*names))
        )

    def _norm(self, name: str, reads: str) -> str:
        norm = name.partition(".hook_normalized")[0]
        gain, bias = self._table(f"{norm}.w"), self._optional(f"{norm}.b")
        return self._add(
            ir.Normalise(
                name=name,
                space="resid",
                reads=reads,
                centred=self.spec.norm == "layernorm",
                eps=self.spec.norm_eps,
                gain=gain,
                bias=bias,
                origin=self._origin(gain.name, *([bias.name] if bias is not None else [])),
            )
        )

    def _sum(self, name: str, *reads: str) -> str:
        return self._add(ir.Sum(name=name, space="resid", reads=reads, origin=ir.Origin("lift")))

    def _rotate(self, name: str, space: str, reads: str, n_heads: int) -> str:
        assert self.spec.rotary_theta is not None
        return self._add(
            ir.Rotate(
                name=name,
                space=space,
                reads=reads,
                n_heads=n_heads,
                theta=self.spec.rotary_theta,
                origin=ir.Origin("lift"),
            )
        )
