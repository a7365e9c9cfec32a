"""Which tokens an emitted program is asked to explain, and the options of its command line for that."""

import random

from englishroom.emit.prelude.talking import choose, command_line, likeliest, say, tell


def choosing(given, stop_ids, first):
    """Return the function that chooses the tokens of a story, by the options of a command line."""
    chance = random.Random(given.seed)

    def next_token(position, answer):
        if given.max_tokens is not None and position >= first + given.max_tokens:
            return None
        if given.greedy or given.temperature == 0:
            token = likeliest(answer)
        else:
            token = choose(answer, chance.random(), given.temperature, given.top_k)
        return None if token in stop_ids else token

    return next_token


def reciting(tokens):
    """Return the function that says given tokens one after the other, whatever the answer."""
    left = iter(tokens)
    return lambda _position, _answer: next(left, None)


def explanations(given, tokenizer, n_ctx, why):
    """Yield the explanations that a command line asks for, as texts.

    Args:
        given: the options; ``told`` is a text whose tokens are explained in place of new ones.
        why: function of the tokens before, and of that which chooses tokens, that yields why each is said.
    """
    tokens = [tokenizer.start_id, *tokenizer.encode(given.prompt)]
    chosen = choosing(given, tokenizer.stop_ids, len(tokens))
    if given.told is not None:
        whole = [tokenizer.start_id, *tokenizer.encode(given.prompt + given.told)]
        first = next((at for at, pair in enumerate(zip(tokens, whole)) if pair[0] != pair[1]), len(tokens))
        tokens, chosen = whole[:first], reciting(whole[first:])
        if len(whole) > n_ctx + 1:
            raise ValueError(f"the text has {len(whole)} tokens, the context holds {n_ctx}; shorten the text")
    if len(tokens) > n_ctx:
        raise ValueError(f"the prompt has {len(tokens)} tokens, the context holds {n_ctx}; shorten the prompt")
    yield from why(tokens, chosen)


def main(arguments=None):
    """Read the command line; tell a story, or say why each token of it, or of a text, is said."""
    parser = command_line()
    parser.add_argument("--explain", action="store_true", help="say why each token is said")
    parser.add_argument("--told", metavar="TEXT", help="explain the tokens of this text, not new ones")
    given = parser.parse_args(arguments)
    if given.explain or given.told is not None:
        say(explanations(given, TOKENIZER, N_CTX, explain_here))
    else:
        say(tell(given))
