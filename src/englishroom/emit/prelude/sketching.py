"""The fixed part of a sketch: what it keeps in mind of a story, its gears, and how it talks.

Sketches are fitted with this very code, and what one needs of it is copied into its file word for word; the docstring
of a gear becomes the comment above it there.
"""

import argparse
import math
import random

END = "<end>"
OTHER = "@other"
NATS = 0.5
STEPS = (0, 1, 2, 3, 4, 5, 7, 9, 12, 16, 24, 40, 60, 90, 120, 150, 180, 210, 240)


def read_table(text):
    """Read rows like `once: 9 upon 3 a | upon: 8 a`, each number before the words it is for: {row: {word: number}}."""
    table = {}
    for row in " ".join(text.split()).split(" | "):
        key, _, votes = row.partition(": ")
        for item in votes.split():
            if item.lstrip("-")[:1].isdigit():
                number = int(item)
            else:
                table.setdefault(key, {})[item] = number
    return table


def spelled(text):
    """Spell a piece of text as the tables do: `once` is ` once`, `_ing` is `ing`, `¶` a line end."""
    text = text.replace("\n", "¶")
    if text[:1] == " " and len(text) > 1:
        return text[1:] if text[1].isalpha() else "~" + text[1:]
    return "_" + text if text[:1].isalnum() else text


def written(word):
    """Undo the spelling."""
    text = " " + word.lstrip("~") if word[0].isalpha() or word[0] == "~" else word.removeprefix("_")
    return text.replace("¶", "\n")


def cut(text):
    """Cut a text into the longest pieces that are known."""
    while text:
        size = max(n for n in range(1, 21) if n == 1 or (n <= len(text) and spelled(text[:n]) in KNOWN))
        yield spelled(text[:size])
        text = text[size:]


class Story:
    """A story as far as it is told, and what a reader keeps in mind of it."""

    def __init__(self, kinds):
        self.kinds, self.words, self.clause, self.quoted = kinds, [], [], False
        self.seen, self.latest, self.after, self.n_clauses = {}, {}, {}, 0

    def kind(self, word):
        return self.kinds.get(word, OTHER)

    def back(self, n):
        """Return the n-th last word and its kind."""
        word = self.words[-n] if n <= len(self.words) else "<none>"
        return word, self.kind(word)

    def read(self, word):
        if word == END:
            self.__init__(self.kinds)
        self.after[tuple(self.words[-1:])] = self.after[tuple(self.words[-2:])] = word
        self.words.append(word)
        self.clause.append(word)
        self.seen[word] = self.seen.get(word, 0) + 1
        self.latest[self.kind(word)] = word
        self.quoted ^= '"' in word
        if word[-1] in '.!?"¶':
            self.n_clauses += len(self.clause) > 1
            self.clause = []


def last(story):
    """The last word, or its kind."""
    return story.back(1)


def two_back(story):
    """The word before the last, or its kind."""
    return story.back(2)


def three_back(story):
    """The third last word, or its kind."""
    return story.back(3)


def pair(story):
    """The last two words, each as itself or as its kind."""
    return [f"{a} {b}" for a in story.back(2) for b in story.back(1)]


def phrase(story):
    """The last three or four words, or the kinds of the last three."""
    words, kinds = zip(*(story.back(n) for n in (4, 3, 2, 1)))
    return " ".join(words), " ".join(words[1:]), " ".join(kinds[1:])


def earlier(story):
    """Every word said so far in the story."""
    return story.seen


def latest(story):
    """The latest word of every kind."""
    return story.latest.values()


def clause(story):
    """The words since the sentence or the speech began but for the last, and their kinds."""
    words = dict.fromkeys(story.clause[:-1])
    return [*words, *dict.fromkeys(map(story.kind, words))]


def opening(story):
    """How the sentence or the speech began, two words back or more."""
    word = story.clause[0] if len(story.clause) > 1 else "<none>"
    return word, story.kind(word)


def step(n):
    """Round a count down to one of a few."""
    return max(s for s in STEPS if s <= n)


def state(story):
    """Where in the story and in the sentence, and whether someone speaks."""
    place = step(len(story.words)) if story.words[0] == END else "unknown"
    voice, n = "quoted" if story.quoted else "told", step(len(story.clause))
    return voice, f"{voice} {n}", f"place {place}", f"sentences {step(story.n_clauses)}"


def speech(story):
    """The last word, or its kind, while someone speaks."""
    return story.back(1) if story.quoted else ()


def copying(story):
    """Words said before (twice, lately, in this sentence, after the last one or two before): votes for their kinds."""
    yield "seen", story.seen
    yield "twice", [word for word, n in story.seen.items() if n > 1]
    yield "lately", dict.fromkeys(story.words[-20:])
    yield "clause", dict.fromkeys(story.clause)
    yield "latest", story.latest.values()
    yield from ((f"after {n}", [story.after[w]]) for n in (1, 2) if (w := tuple(story.words[-n:])) in story.after)


def log_probs(story):
    """Return the log-probability of every word it knows; under None, that of each of the talker's other tokens."""
    votes = dict.fromkeys(story.words, 0) | KNOWN | dict.fromkeys(WORDS, 0) | {OTHER: 0}
    for gear, table in GEARS.items():
        for key in gear(story):
            if isinstance(key, str):
                for word, number in table.get(key, {}).items():
                    votes[word] += number
            elif key[0] in table:  # words that may be said again
                for word in key[1]:
                    votes[word] += table[key[0]].get(story.kind(word), 0)
    sums = {word: NATS * (n + votes[story.kind(word)]) for word, n in votes.items() if word not in WORDS}
    sums[None] = NATS * votes[OTHER]
    del sums[OTHER]
    top, others = max(sums.values()), N_TOKENS - len(sums) + 1
    total = top + math.log(sum(math.exp(n - top) * (1 if word else others) for word, n in sums.items()))
    return {word: n - total for word, n in sums.items()}


def talk(prompt="", seed=None, temperature=1.0, max_words=None):
    """Tell on from a prompt, word by word; at temperature 0 always the likeliest."""
    chance, story = random.Random(seed), Story(KINDS)
    for word in (END, *cut(prompt)):
        story.read(word)
    room = max(0, N_CTX - len(story.words))
    for _ in range(room if max_words is None else min(room, max_words)):
        answer = log_probs(story)
        del answer[None]
        word = max(answer, key=answer.get)
        if temperature > 0:
            weights = [math.exp((n - answer[word]) / temperature) for n in answer.values()]
            word = chance.choices(list(answer), weights)[0]
        if word == END:
            return
        yield written(word)
        story.read(word)


def main():
    """Read the command line and tell a story."""
    parser = argparse.ArgumentParser(description="Tell a story.")
    parser.add_argument("prompt", nargs="?", default="")
    for name, kind, value in (("--seed", int, None), ("--temperature", float, 1.0), ("--max-words", int, None)):
        parser.add_argument(name, type=kind, default=value)
    given = parser.parse_args()
    print(given.prompt, end="")
    for text in talk(given.prompt, given.seed, given.temperature, given.max_words):
        print(text, end="", flush=True)
    print()
