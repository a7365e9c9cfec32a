"""The settings of training: the shape of a talker, its schedule, and the texts that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval
from tyro.conf import Positional, arg

from englishroom.bounds import Amount, Count, Positive, Settings, Share
from englishroom.data.corpus import BlankLines
from englishroom.errors import ConfigError
from englishroom.models.spec import ModelSpec


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Shape of the model, which is built like GPT-2, and how long and how fast it learns."""

    n_layers: Count = 2
    """Number of layers. Each layer has one attention block and one MLP."""
    d_model: Count = 160
    """Width of the model: how many numbers describe a token between two layers. It must be a multiple of --n-heads."""
    n_heads: Count = 5
    """Number of attention heads in each layer. The width is divided equally among them."""
    n_ctx: Count = 256
    """Context: the most tokens that the model can read at once."""
    vocabulary: Annotated[int, Interval(ge=257, le=65_536)] = 2048
    """Number of different tokens. The tokenizer is learnt from the text: 256 bytes, an end mark, and frequent pieces of
    words."""
    tokens: Count = 40_000_000
    """Length of the training, in tokens read. Where the text is shorter than this, it is read several times."""
    batch: Count = 32
    """Number of pieces of text, each --n-ctx tokens long, that one training step reads."""
    matrix_rate: Positive = 0.03
    """Highest learning rate of the weight matrices (optimiser: Muon)."""
    vector_rate: Positive = 0.01
    """Highest learning rate of the embeddings, gains and biases (optimiser: AdamW)."""
    decay_share: Share = 0.6
    """Share of the training, 0 to 1, at its end, during which both learning rates fall in a straight line to zero."""
    choose_share: Share = 0.01
    """Share of the documents, 0 to 1, that the model never trains on. Its loss is measured on them during training."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Number format of matrix products. bfloat16 is less exact, and about 1.6 times faster if the processor supports
    it."""
    seed: Amount = 0
    """Starting number of the random generator, which draws the first weights and the order of the text."""

    def validate(self) -> None:
        """Refuse settings that make no model.

        Raises:
            ConfigError: a value is out of its bounds, or the heads cannot share the width.
        """
        super().validate()
        self.spec()

    def spec(self) -> ModelSpec:
        """Describe the model that this configuration trains."""
        from englishroom.models.adapters import gpt2  # it loads torch
        from englishroom.models.adapters.mapping import Config

        if self.d_model % self.n_heads:
            raise ConfigError(f"--d-model is {self.d_model}, expected a multiple of --n-heads, which is {self.n_heads}")
        shape = {"n_layer": self.n_layers, "n_embd": self.d_model, "n_head": self.n_heads, "n_positions": self.n_ctx}
        return gpt2.read(Config(shape | {"vocab_size": self.vocabulary}, "settings of training")).spec

    @property
    def n_steps(self) -> int:
        return max(1, self.tokens // (self.batch * self.n_ctx))


@dataclass(frozen=True)
class TalkerConfig(Settings):
    """Which texts a talker is trained on, and how."""

    texts: Annotated[Positional[tuple[str, ...]], arg(metavar="TEXT ...", help_behavior_hint="(required)")]
    """Texts to train on: text files, tables, folders of them, or names of datasets on the Hugging Face hub. A text that
    is named twice is read twice as often."""
    blank_lines: BlankLines = "collapse"
    """collapse: replace each line break, with the spaces and empty lines around it, by one line break. keep: leave the
    text as it is."""
    training: TrainConfig = TrainConfig()
    """Shape of the model, and its training."""

    def validate(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            ConfigError: a value is out of its bounds, or there is no text.
        """
        super().validate()
        if not self.texts:
            raise ConfigError("no text to train on; give at least one text file")
