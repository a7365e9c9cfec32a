"""Settings of readable programs: their sizes, and how they are fitted and pruned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Interval
from tyro.conf import arg

from englishroom.bounds import Amount, Count, Positive, Settings, Share, Weight
from englishroom.errors import ConfigError


@dataclass(frozen=True)
class StreamConfig(Settings):
    """How the model is rewritten with looks, moved features and rules, which still write to one stream of numbers."""

    matches: Count = 8
    """Matches of a look: pairs of what is asked for here and what is offered there."""
    moved: Annotated[Count, arg(name="look-moved")] = 128
    """Moved features of a look."""
    moved_active: Annotated[Count, arg(name="look-active")] = 2
    """How many moved features of a look may be active at one position."""
    rules: Annotated[Count, arg(name="layer-rules")] = 1536
    """Rules of a layer."""
    rules_active: Annotated[Count, arg(name="layer-active")] = 16
    """How many rules of a layer may be active at one position."""
    first_rules_active: Annotated[Count, arg(name="first-layer-active")] = 8
    """How many rules of the first layer, which read little but words, may be active at one position."""
    place_factor: Annotated[float, Ge(1)] = 1.5
    """How much farther each place in the text lies from the beginning than the one before; 1 makes every position one
    of its own."""
    apart_tokens: Amount = 100_000
    """Tokens to read while moved features and rules are fitted one part at a time, on the model's own values."""
    look_tokens: Amount = 200_000
    """Tokens to read while looks are fitted to the model's own attention."""
    tokens: Annotated[Amount, arg(name="stream-tokens")] = 600_000
    """Tokens to read while all parts are fitted together, each reading what the others wrote."""
    batch: Annotated[Count, arg(name="stream-batch")] = 4
    """Rows of text (each as long as the context) in one step of these fits."""
    inside: Annotated[Share, arg(name="stream-inside")] = 0.2
    """Share of the rows that begin inside a document, as those do that go on where a long document did not fit into the
    context."""
    rate: Annotated[Positive, arg(name="stream-rate")] = 0.012
    """Peak learning rate of the fit together, as a share of the size of the weights in a table."""
    apart_rate: Positive = 6e-3
    """Peak learning rate of the fit one part at a time."""
    look_rate: Positive = 0.01
    """Peak learning rate of the fit of looks."""
    align: Annotated[Weight, arg(name="stream-align")] = 0.1
    """Weight of the distance between the stream and the model's own, after every part; the KL from the model's
    next-token distribution has weight 1."""
    look_weight: Weight = 0.03
    """Weight of the divergence of looks from the model's attention; KL has weight 1."""
    look_until: Share = 0.6
    """Share of the fit together after which looks need not follow the model's attention any more."""
    revive: Weight = 0.03
    """Weight of the loss that brings features back which have not fired for long."""
    dead_after: Annotated[Count, arg(name="stream-dead-after")] = 40_000
    """Positions without firing after which a feature counts as dead."""
    ablate: Annotated[Share, arg(name="stream-ablate")] = 0.2
    """Share of steps in which one head or MLP is switched off in the model and in the program alike."""
    widen: Annotated[float, Ge(1), arg(name="stream-widen")] = 2.0
    """When the fit together begins, this many times as many features may be active as at its end."""

    def validate(self) -> None:
        """Refuse what is out of bounds.

        Raises:
            ConfigError: a value is out of its bounds, or more features are active than there are.
        """
        super().validate()
        for flag, active, size, of in (
            ("look", self.moved_active, self.moved, "look-moved"),
            ("layer", self.rules_active, self.rules, "layer-rules"),
            ("first-layer", self.first_rules_active, self.rules, "layer-rules"),
        ):
            if active > size:
                raise ConfigError(f"--{flag}-active is {active}, expected 1 to {size}, the value of --{of}")


@dataclass(frozen=True)
class WiringConfig(Settings):
    """How edges between features are left out, and the rest fitted again."""

    tokens: Annotated[Count, arg(name="short-tokens")] = 500_000
    """Tokens to read while edges are left out and the rest is fitted again."""
    batch: Annotated[Count, arg(name="short-batch")] = 4
    """Rows of text in one step."""
    inside: Annotated[Share, arg(name="short-inside")] = 0.2
    """Share of the rows that begin inside a document."""
    rate: Annotated[Positive, arg(name="short-rate")] = 0.006
    """Peak learning rate, as a share of the size of the weights in a table."""
    reads_half: Count = 6
    """Features that half of the rules and of the moved features read at most in the end; a list of words for it counts
    as one, and so does a list of words against it."""
    reads_p95: Count = 12
    """Features that 95 of 100 of them read at most in the end."""
    reads_most: Count = 24
    """Features that any of them reads at most in the end."""
    look_reads: Count = 48
    """Features that a query, a key or a lone key reads at most in the end."""
    words_half: Count = 32
    """Words for and against that half of the rules and of the moved features have at most in the end."""
    words_p95: Count = 64
    """Words that 95 of 100 of them have at most in the end."""
    words_most: Count = 128
    """Words that any of them has at most in the end."""
    look_words: Count = 240
    """Words that a query, a key or a lone key has at most in the end."""
    votes: Annotated[Count, arg(name="votes-each")] = 80
    """Words that a feature votes for in the end, on average."""
    votes_most: Annotated[int, Interval(ge=1, le=255)] = 128
    """Words that any feature votes for at most in the end."""
    follows: Annotated[Count, arg(name="follows-each")] = 96
    """Words that follow a word by its own short row in the end, on average."""
    follows_most: Annotated[int, Interval(ge=1, le=255)] = 255
    """Words that follow any word by its own short row at most in the end."""
    first_reads: Annotated[Count, arg(name="short-first-reads")] = 256
    """Features that any of these sums reads at the start."""
    first_words: Annotated[Count, arg(name="short-first-words")] = 512
    """Words that any of these sums reads at the start."""
    first_votes: Annotated[Count, arg(name="short-first-votes")] = 384
    """Words that any feature votes for at the start."""
    pruned_from: Share = 0.04
    """Share of these tokens after which edges begin to be left out."""
    pruned_until: Annotated[float, Interval(gt=0, le=1)] = 0.55
    """Share of these tokens after which no more edges are left out."""
    sharp_from: Annotated[Share, arg(name="sharp-from")] = 0.04
    """Share of these tokens after which thresholds begin to decide what is on, in place of being among the strongest
    few; they train from then on."""
    sharp_until: Annotated[float, Interval(gt=0, le=1), arg(name="sharp-until")] = 0.55
    """Share of these tokens after which thresholds alone decide what is on."""
    prunings: Annotated[Count, arg(name="short-prunings")] = 150
    """How many times edges are left out, in equal steps."""
    active: Annotated[float, Interval(gt=0, le=1), arg(name="short-active")] = 1.0
    """How many features of a look or a layer are to be on, on average, as a share of those that could be before."""
    often: Annotated[float, Interval(gt=0, le=1)] = 0.15
    """Share of the positions at which a feature may be on without a loss."""
    ablate: Annotated[Share, arg(name="short-ablate")] = 0.1
    """Share of steps in which one head or MLP is switched off in the model and in the program alike."""


@dataclass(frozen=True)
class SmallestConfig(Settings):
    """How all that a readable program can do without is left out of it."""

    tolerance: Annotated[Weight, arg(name="smallest")] = 0.0
    """Leave out all that the program can do without, as long as its KL on samples that it is not fitted to is at most
    so many nats per token above the least on the way; 0 leaves nothing out."""
    rate: Annotated[Positive, arg(name="smallest-rate")] = 0.03
    """Peak learning rate of the first fit; later ones have half of it."""
    batch: Annotated[Count, arg(name="smallest-batch")] = 32
    """Rows of text in one step."""
    first_steps: Annotated[Count, arg(name="smallest-first-steps")] = 800
    """Steps of the fit before anything is left out."""
    steps: Annotated[Count, arg(name="smallest-steps")] = 120
    """Steps of the fit after each cut."""


@dataclass(frozen=True)
class ReadableConfig(Settings):
    """All settings of readable programs."""

    start: Annotated[Path | None, arg(name="start-room")] = None
    """A readable room of the same model to go on from: its edges are fitted on, and left out where bounds are tighter
    (level readable). By default everything is fitted from the beginning."""
    stream: StreamConfig = StreamConfig()
    """The model with looks, moved features and rules in place of its heads and MLPs (level readable)."""
    short: WiringConfig = WiringConfig()
    """Edges that lead from feature to feature directly, of which most are left out (level readable)."""
    smallest: SmallestConfig = SmallestConfig()
    """What is left out besides, where --smallest is given (level readable)."""
    half: Annotated[bool, arg(name="bfloat16")] = True
    """Form large products in bfloat16, which processors with matrix units do several times faster; a hundredth of a nat
    is at stake."""
