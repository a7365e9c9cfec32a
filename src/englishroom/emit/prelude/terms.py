"""How a program of conditions tells where they hold, and how it reads its own lines."""


def new_text():
    """Return an empty text: its words, where the sentence began, and where a quote opened, if one did."""
    return {"words": [], "began": 0, "opened": None}


def read_word(word, text, marks):
    """Read the next word of a text.

    Args:
        marks: words that end a sentence, open quotes, close them, and turn inside into outside and back.
    """
    ends, opens, closes, turns = marks
    words = text["words"]
    if words and words[-1] in ends:
        text["began"] = len(words)
    inside = text["opened"] is not None
    if word in opens or ((inside if word not in turns else not inside) and word not in closes):
        text["opened"] = text["opened"] if inside else len(words)
    else:
        text["opened"] = None
    words.append(word)


def true_terms(text, terms):
    """Return the numbers of all terms that are true at the last word of a text; each is looked up once."""
    at, earlier, facts = terms
    words, began, opened = text["words"], text["began"], text["opened"]
    here, true = len(words) - 1, set()
    for back, by_word in at.items():
        if back <= here:
            true.update(by_word.get(words[here - back], ()))
    firsts = {"text": 0, "sentence": began, "quote": here if opened is None else opened}
    for reach, by_word in earlier.items():
        first = firsts[reach] if reach in firsts else max(0, here - reach)
        for word in set(words[first:here]):
            true.update(by_word.get(word, ()))
    for (kind, least), number in facts.items():
        if kind == "quotes":
            holds = opened is not None
        elif kind == "into":
            holds = here - began >= least
        else:
            holds = words[here] in words[:here]
        if holds:
            true.add(number)
    return true


def told(true, conditions):
    """Return the features whose conditions hold, with their values.

    A condition holds where one of its alternatives does: all that it needs is true, and nothing that it bars.
    """
    by_term, always = conditions
    tried = [alternative for term in true if term in by_term for alternative in by_term[term]]
    return {
        feature: value
        for feature, value, needed, barred in tried + always
        if needed <= true and barred.isdisjoint(true)
    }


def conditions_in(text, numbers, words, number):
    """Read lines of a number, a name, a value and a condition; return the alternatives of each feature.

    Args:
        numbers: of the terms known so far, which those of these lines are added to.
        words: the number of each word.
        number: reads a value.
    """
    found = {}
    for _, name, value, _, *condition in lines_of(text):
        found[name[:-1]] = [
            (name[:-1], number(value), *alternative_in(part, numbers, words))
            for part in " ".join(condition).split("; or ")
            if part != "never"
        ]
    return found


def alternative_in(text, numbers, words):
    """Read what must all be true; return the numbers of terms that it needs, and of those that it bars."""
    sides = (set(), set())
    for part in text.split(", and "):
        term, negated = term_in(part, words)
        sides[negated].add(numbers.setdefault(term, len(numbers)))
    return frozenset(sides[0]), frozenset(sides[1])


def term_in(text, words):
    """Read one term; return what it says, as (kind, how far, words), and whether it says that this is not so."""
    parts = text.split(" ")
    if parts[-1] == "quotes":
        return ("quotes", 0, ()), parts[0] == "outside"
    if parts[-1] == "sentence" and parts[-2] == "the":
        most = parts[1] == "most"
        return ("into", int(parts[2]) + most, ()), most
    if len(parts) == 5 and parts[1:3] == ["word", "here"]:
        return ("repeated", 0, ()), parts[-1] == "new"
    if parts[1:3] == ["word", "of"]:
        place = {"earlier": "text", "sentence": "sentence", "opened": "quote"}.get(parts[-1]) or int(parts[-1])
        return ("earlier", place, listed(parts[3], words)), parts[0] == "no"
    back = 0 if parts[-1] == "here" else 1 if parts[-2:] == ["just", "before"] else int(parts[-2])
    rest = parts[:-1] if back == 0 else parts[:-2]
    return ("at", back, listed(rest[-1], words)), len(rest) > 1


def listed(text, words):
    """Read the numbers of the words of a list."""
    return tuple(sorted({words[word] for word in text.split("/")}))


def arranged(numbers):
    """Arrange terms by how they are told: by how far back and word, by where earlier and word, and the others."""
    at, earlier, facts = {}, {}, {}
    for (kind, how, members), number in numbers.items():
        if kind in ("at", "earlier"):
            by_word = (at if kind == "at" else earlier).setdefault(how, {})
            for word in members:
                by_word.setdefault(word, []).append(number)
        else:
            facts[kind, how] = number
    return at, earlier, facts


def by_term(features, numbers):
    """Arrange alternatives by a term that each needs, one that is true at few positions, and those that need none."""
    kinds = [kind for kind, _, _ in numbers]
    rank = {"at": 0, "earlier": 1, "repeated": 2, "quotes": 3, "into": 4}
    found, always = {}, []
    for alternatives in features.values():
        for alternative in alternatives:
            if alternative[2]:
                key = min(alternative[2], key=lambda term: (rank[kinds[term]], term))
                found.setdefault(key, []).append(alternative)
            else:
                always.append(alternative)
    return found, always


def marks_in(text, words):
    """Read the words that end a sentence, open quotes, close them, and turn them round: a line each."""
    return [{words[word] for word in line.split()[1:]} for line in text.splitlines() if line and line[0] != "#"]


def by_place(features):
    """Call features by their places too, where names begin with these, as "r1.12:she/her" begins with "r1.12"."""
    return {name.partition(":")[0]: alternatives for name, alternatives in features.items()} | features


def holds(name, tokens):
    """Say whether the condition of a feature, such as "r1.12", holds at the last of some tokens.

    Args:
        tokens: a text from its beginning, the start token first.
    """
    if name not in FEATURES:
        raise ValueError(f"no feature is called {name!r}")
    if not len(tokens):
        raise ValueError("a condition holds at a word, and there is none; give tokens")
    text = new_text()
    for token in tokens:
        read_word(token, text, MARKS)
    true = true_terms(text, TERMS)
    return any(needed <= true and barred.isdisjoint(true) for _, _, needed, barred in FEATURES[name])
