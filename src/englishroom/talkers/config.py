"""How a talker is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from englishroom.errors import ConfigError
from englishroom.models.spec import ModelSpec


@dataclass(frozen=True)
class TrainConfig:
    """How a talker is trained; the architecture is GPT-2's, tied, with learned positions."""

    n_layers: int = 2
    """Layers, each an attention block and an MLP."""
    d_model: int = 160
    """Width of the residual stream; the MLPs are four times as wide."""
    n_heads: int = 5
    """Heads of each attention block; they share the width."""
    n_ctx: int = 256
    """Tokens that the model reads at once at most."""
    vocabulary: int = 2048
    """Tokens of the tokenizer, which is learnt from the text."""
    tokens: int = 40_000_000
    """Training tokens, repeats included; the run's length."""
    batch: int = 32
    """Windows of ``n_ctx`` tokens in one step."""
    matrix_rate: float = 0.03
    """Peak learning rate of the matrices (Muon)."""
    vector_rate: float = 0.01
    """Peak learning rate of embeddings, gains and biases (AdamW)."""
    decay_share: float = 0.6
    """The last share of the run, over which both rates fall linearly to zero."""
    choose_share: float = 0.01
    """Share of the training documents held out, by hash, for the validation curve."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of matrix products in training; bfloat16 is about 1.6 times faster where the processor has it."""
    seed: int = 0
    """Seed of the weights and of the order of the text."""

    def check(self) -> None:
        """Refuse values that make no sense.

        Raises:
            ConfigError: a value is out of range.
        """
        for name in ("n_layers", "d_model", "n_heads", "n_ctx", "tokens", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected 1 or more")
        if not 257 <= self.vocabulary <= 65_536:
            raise ConfigError(f"--vocabulary is {self.vocabulary}, expected 257 (the bytes and one more) to 65536")
        for name in ("matrix_rate", "vector_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected a number above 0")
        for name in ("decay_share", "choose_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected 0 to 1")
        if self.seed < 0:
            raise ConfigError(f"--seed is {self.seed}, expected 0 or more")
        self.spec()

    def spec(self) -> ModelSpec:
        """Describe the model that this configuration trains."""
        if self.d_model % self.n_heads:
            raise ConfigError(f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}; choose one that is")
        d_head = self.d_model // self.n_heads
        return ModelSpec(
            family="gpt2",
            n_layers=self.n_layers,
            d_model=self.d_model,
            n_heads=self.n_heads,
            n_kv_heads=self.n_heads,
            d_head=d_head,
            d_mlp=4 * self.d_model,
            d_vocab=self.vocabulary,
            n_ctx=self.n_ctx,
            activation="gelu_new",
            norm="layernorm",
            norm_eps=1e-5,
            gated_mlp=False,
            rotary_theta=None,
            attn_scale=1 / math.sqrt(d_head),
            windows=(None,) * self.n_layers,
            tied=True,
            qkv_bias=True,
            out_bias=True,
            mlp_bias=True,
        )

    @property
    def n_steps(self) -> int:
        return max(1, self.tokens // (self.batch * self.n_ctx))
