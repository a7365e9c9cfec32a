"""What the conditions of features mean: whether one holds at the end of a text."""


def holds(name, tokens):
    """Say whether the condition of a feature, such as "r1.12", holds at the last of some tokens.

    Args:
        tokens: a text from its beginning, the start token first.
    """
    here = len(tokens) - 1
    texts = [TOKENIZER.pieces[token].decode("utf-8", "replace") for token in tokens]
    special = [token in TOKENIZER.specials for token in tokens]
    ends = [end or not set(".!?\n…").isdisjoint(text) for end, text in zip(special, texts)]
    sentence = max([place + 1 for place in range(here) if ends[place]], default=0)
    opened = quote_opened(texts, special)
    reaches = {"text": 0, "sentence": sentence, "quote": here if opened is None else opened}
    words = [WORDS[token] for token in tokens]

    def is_true(term):
        kind, number, listed, negated = term
        if kind == "word at":
            found = here >= number and words[here - number] in listed
        elif kind == "word earlier":
            first = reaches[number] if number in reaches else max(0, here - number)
            found = any(word in listed for word in words[first:here])
        elif kind == "in quotes":
            found = opened is not None
        elif kind == "into sentence":
            found = here - sentence >= number
        else:
            found = words[here] in words[:here]
        return found != negated

    return any(all(map(is_true, terms)) for terms in condition_of(name))


def condition_of(name):
    """Return the condition of a feature: alternatives, each of terms (kind, number, words, whether it is negated)."""
    if name not in CONDITIONS:
        raise ValueError(f"{name!r} has no condition; those that have one are the keys of CONDITIONS")
    return CONDITIONS[name]


def quote_opened(texts, special):
    """Return where the quote opened that the end of a text is inside of, or None outside quotes."""
    opened = None
    for place, text in enumerate(texts):
        inside = opened is not None
        for mark in text:
            inside = True if mark in "“«" else False if mark in "”»\n" else not inside if mark == '"' else inside
        if special[place] or not inside:
            opened = None
        elif opened is None:
            opened = place
    return opened
