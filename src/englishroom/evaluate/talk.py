"""Making a talker talk. The choice of tokens is that of emitted programs (``emit.prelude.talking``), in numpy."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.bounds import Amount, Count, Settings, Weight
from englishroom.errors import ConfigError
from englishroom.talker import Talker


@dataclass(frozen=True)
class TalkOptions(Settings):
    """How the next token is chosen, and when to stop."""

    temperature: Weight = 1.0
    """How freely tokens are drawn. 1: with the probabilities that the talker gives them. Below 1: likely tokens become
    more likely still. Above 1: unlikely ones do. 0: the same as --greedy."""
    top_k: Count | None = None
    """Draw from this many of the likeliest tokens only; by default from all."""
    seed: int | None = None
    """Start of the random numbers; the same seed gives the same story. By default each call gives another one."""
    max_tokens: Amount | None = None
    """Stop after this many tokens. By default the story goes on until the talker ends it, or until the longest text
    that the talker can read is full."""
    greedy: bool = False
    """Always take the likeliest token; nothing is drawn at random."""


def readable_prompts(talker: Talker, prompts: Sequence[str]) -> tuple[str, ...]:
    """Return those prompts that a talker can read and go on from: default ones may be too long for a short context."""
    found = []
    for prompt in prompts:
        try:
            tokens = prompt_tokens(talker, prompt)
        except ConfigError:
            continue
        found += [prompt] if len(tokens) < talker.n_ctx else []
    return tuple(found)


def prompt_tokens(talker: Talker, prompt: str) -> list[int]:
    """Encode a prompt after the start token.

    Raises:
        ConfigError: the prompt has no tokens in this vocabulary, or does not fit the context.
    """
    try:
        tokens = [talker.tokenizer.start_id, *talker.tokenizer.encode(prompt)]
    except ValueError as error:
        raise ConfigError(f"prompt: {error}; use other characters") from None
    if len(tokens) > talker.n_ctx:
        raise ConfigError(f"the prompt has {len(tokens)} tokens, the context holds {talker.n_ctx}; shorten the prompt")
    return tokens


def continuation(talker: Talker, tokens: Sequence[int], options: TalkOptions) -> Iterator[int]:
    """Yield the tokens that follow others, until the story ends or the context is full."""
    options.validate()
    reading = talker.stream()
    answer = reading.extend(np.array([tokens]))[0, -1]
    chance = random.Random(options.seed)
    room = talker.n_ctx - len(tokens) + 1
    limit = room if options.max_tokens is None else min(room, options.max_tokens)
    for count in range(1, limit + 1):
        if options.greedy or options.temperature == 0:
            token = int(answer.argmax())
        else:
            token = choose(answer, chance.random(), options.temperature, options.top_k)
        if token in talker.tokenizer.stop_ids:
            return
        yield token
        if len(tokens) + count <= talker.n_ctx and count < limit:
            answer = reading.extend(np.array([[token]]))[0, -1]


def talk(talker: Talker, prompt: str, options: TalkOptions) -> Iterator[str]:
    """Yield the text that follows a prompt, piece by piece."""
    tokens = prompt_tokens(talker, prompt)
    return talker.tokenizer.stream(continuation(talker, tokens, options), previous=tokens[-1])


def choose(answer: NDArray[Any], chance: float, temperature: float, top_k: int | None) -> int:
    """Return the token at share ``chance`` (0..1) of the cumulative probabilities, after temperature and top-k."""
    scores = answer.astype(np.float64)
    tokens = np.arange(len(scores))
    if top_k is not None and top_k < len(scores):
        tokens = np.sort(np.argsort(-scores, kind="stable")[:top_k])
        scores = scores[tokens]
    with np.errstate(over="ignore"):  # at the coldest temperatures all but the likeliest fall to minus infinity
        summed = np.cumsum(np.exp((scores - scores.max()) / temperature))
    return int(tokens[min(np.searchsorted(summed, chance * summed[-1], side="right"), len(tokens) - 1)])
