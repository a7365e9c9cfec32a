"""How an emitted program talks, and its command line."""

import argparse
import heapq
import itertools
import math
import os
import random
import sys
import unicodedata


def log_probs(tokens):
    """Return, for each position, the natural-log probabilities of every token that may come next."""
    if len(tokens) > N_CTX:
        raise ValueError(f"{len(tokens)} tokens do not fit the context of {N_CTX}")
    if not all(0 <= token < D_VOCAB for token in tokens):
        raise ValueError(f"a token is outside the vocabulary, expected 0..{D_VOCAB - 1}")
    memory = new_memory()
    return [step(token, position, memory) for position, token in enumerate(tokens)]


def talk(prompt="", temperature=1.0, top_k=None, seed=None, max_tokens=None, greedy=False):
    """Yield the text that follows a prompt, piece by piece.

    Args:
        prompt: text to go on from; empty for a new story.
        temperature: below 1 keeps to the likely, above 1 strays from it.
        top_k: choose among the k likeliest tokens only.
        seed: the same seed tells the same story.
        max_tokens: stop after so many tokens; by default at the end of the story or of the context.
        greedy: always take the likeliest token.
    """
    if not 0 <= temperature < math.inf or (top_k is not None and top_k < 1):
        raise ValueError("expected a temperature of 0 or more and a top_k of 1 or more")
    tokens = [TOKENIZER.start_id, *TOKENIZER.encode(prompt)]
    if len(tokens) > N_CTX:
        raise ValueError(f"the prompt has {len(tokens)} tokens, the context holds {N_CTX}; shorten the prompt")
    return TOKENIZER.stream(continuation(tokens, temperature, top_k, seed, max_tokens, greedy), previous=tokens[-1])


def continuation(tokens, temperature=1.0, top_k=None, seed=None, max_tokens=None, greedy=False):
    """Yield the tokens that follow others, until the story ends or the context is full."""
    memory = new_memory()
    for position, token in enumerate(tokens):
        answer = step(token, position, memory)
    chance = random.Random(seed)
    room = N_CTX - len(tokens) + 1
    for position in range(len(tokens), len(tokens) + min(room, room if max_tokens is None else max_tokens)):
        token = likeliest(answer) if greedy or temperature == 0 else choose(answer, chance.random(), temperature, top_k)
        if token in TOKENIZER.stop_ids:
            return
        yield token
        if position < N_CTX:
            answer = step(token, position, memory)


def likeliest(answer):
    """Return the token of highest log-probability, the first of equals."""
    return max(range(len(answer)), key=answer.__getitem__)


def choose(answer, chance, temperature, top_k):
    """Return the token at share chance (0..1) of the cumulative probabilities, after temperature and top-k."""
    tokens = range(len(answer))
    if top_k is not None and top_k < len(answer):
        tokens = sorted(heapq.nsmallest(top_k, tokens, key=lambda token: (-answer[token], token)))
    top = max([answer[token] for token in tokens])
    summed = list(itertools.accumulate([math.exp((answer[token] - top) / temperature) for token in tokens]))
    aim = chance * summed[-1]
    return next(token for token, reached in zip(tokens, summed) if reached > aim)


def shown(text):
    """Escape control characters, which a terminal would obey."""
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
        else character.encode("unicode_escape").decode()
        for character in text
    )


def number_above(low, kind):
    """Return a reader of command-line numbers that refuses those below low."""

    def read(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {low} or more")
        return value

    return read


def command_line():
    """Return the reader of the command line."""
    parser = argparse.ArgumentParser(description="Tell a story.")
    parser.add_argument("prompt", nargs="?", default="", help="text to go on from; none starts a new story")
    parser.add_argument(
        "--temperature", type=number_above(0, float), default=1.0, help="1.0; below keeps to the likely"
    )
    parser.add_argument("--top-k", type=number_above(1, int), help="choose among the k likeliest tokens only")
    parser.add_argument("--seed", type=int, help="the same seed tells the same story")
    parser.add_argument("--max-tokens", type=number_above(0, int), help="default: to the end of story or context")
    parser.add_argument("--greedy", action="store_true", help="always take the likeliest token")
    return parser


def tell(given):
    """Yield the prompt of a command line, and the story that follows it."""
    told = talk(given.prompt, given.temperature, given.top_k, given.seed, given.max_tokens, given.greedy)
    yield given.prompt
    yield from told


def say(texts):
    """Print texts as they come, and end the program in one line where that cannot be done."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    try:
        for text in texts:
            print(shown(text), end="", flush=True)
        print(flush=True)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    except OSError as error:  # standard output is closed or full; let nothing more be written to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1 if isinstance(error, BrokenPipeError) else f"error: {error.strerror}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def main(arguments=None):
    """Read the command line and tell a story."""
    say(tell(command_line().parse_args(arguments)))
