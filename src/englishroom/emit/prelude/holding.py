"""What the conditions of features mean: whether one holds at the end of a text, and what makes it true."""

import re


def holds(name, tokens):
    """Say whether the condition of a feature, such as "r1.12", holds at the last of some tokens.

    Args:
        tokens: a text from its beginning, the start token first.
    """
    return bool(why_true(condition_of(name), read_text(tokens, TOKENIZER, WORDS)))


def read_text(tokens, tokenizer, words):
    """Return what conditions ask of a text: its words, and where its sentence began and its quote opened, if one did.

    Args:
        words: of the vocabulary, as conditions call them.
    """
    here = len(tokens) - 1
    texts = [tokenizer.pieces[token].decode("utf-8", "replace") for token in tokens]
    special = [token in tokenizer.specials for token in tokens]
    ends = [end or not set(".!?\n\u2026").isdisjoint(text) for end, text in zip(special, texts)]
    sentence = max([place + 1 for place in range(here) if ends[place]], default=0)
    return {"words": [words[token] for token in tokens], "sentence": sentence, "opened": quote_opened(texts, special)}


def why_true(alternatives, text):
    """Say what in a text makes a condition true, by the first of its alternatives that holds; nothing if none does."""
    for terms in alternatives:
        told = [term_true(term, text) for term in terms]
        if all(told):
            return ", and ".join(told)
    return ""


def term_true(term, text):
    """Say what in a text makes a term true, with how far back it stands; nothing where the term is false."""
    kind, number, listed, negated = term
    words, sentence, opened = text["words"], text["sentence"], text["opened"]
    here = len(words) - 1
    if kind == "word at":
        found = [here - number] if here >= number and words[here - number] in listed else []
        told = f"{some_of(listed)} {distance(number)}"
    elif kind == "word earlier":
        reaches = {"text": 0, "sentence": sentence, "quote": here if opened is None else opened}
        first = reaches[number] if number in reaches else max(0, here - number)
        found = [at for at in range(first, here) if words[at] in listed]
        where = {"text": "earlier", "sentence": "in this sentence", "quote": "since the quote opened"}
        told = f"{some_of(listed)} {where.get(number, f'in the last {number}')}"
    elif kind == "in quotes":
        found, told = [] if opened is None else [opened], "quotes are open"
    elif kind == "into sentence":
        found = [sentence] if here - sentence >= number else []
        told = f"{here - sentence} words of the sentence stand before this one"
        return told if bool(found) != negated else ""
    else:
        found, told = [at for at in range(here) if words[at] == words[here]], f"{quoted(words[here])} stood earlier"
    if bool(found) == negated:
        return ""
    if negated:
        return f"not: {told}"
    mark = "the quote opened " if kind == "in quotes" else ""
    return f"{mark}{quoted(words[found[-1]])} {distance(here - found[-1])}"


def some_of(listed):
    """Name the first words of a list."""
    return "/".join(listed[:4]) + ("/..." if len(listed) > 4 else "")


def distance(back):
    """Say how far back a word stands."""
    return f"{back} back" if back else "here"


def condition_of(name):
    """Return the condition of a feature: alternatives, each of terms (kind, number, words, whether it is negated)."""
    if name not in CONDITIONS:
        raise ValueError(f"{name!r} has no condition; those that have one are the keys of CONDITIONS")
    return CONDITIONS[name][1]


def quote_opened(texts, special):
    """Return where the quote opened that the end of a text is inside of, or None outside quotes."""
    opened = None
    for place, text in enumerate(texts):
        inside = opened is not None
        for mark in text:
            if mark == '"':
                inside = not inside
            elif mark in "\u201c\xab\u201d\xbb\n":
                inside = mark in "\u201c\xab"
        if special[place] or not inside:
            opened = None
        elif opened is None:
            opened = place
    return opened


def place_of(name):
    """Return what a name begins with that says where its feature stands, as "r1.12:she" does; else all of it."""
    place = re.match(r"[mr]\d+\.\d+(?=$|:|->|#)", name)
    return place[0] if place else name


def quoted(word):
    """Put a word in quotes that do not stand in it."""
    return f"'{word}'" if '"' in word else f'"{word}"'
