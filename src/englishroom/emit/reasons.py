"""The parts of a readable program as its explanations walk them: by name in an emitted file, or as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from englishroom.emit import conditions
from englishroom.emit.lines import TermSum
from englishroom.emit.listing import ALWAYS, ReadableListing
from englishroom.emit.prelude import asking, deciding, reasons, rereading
from englishroom.emit.prelude.readable import by_feature, keyed, summed_up, the_word, to_numbers, turned
from englishroom.ir.labels import Labels
from englishroom.ir.program import Fire, Linear, Looks, Lookup, Program, SparseTable, Table, Votes
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.wording import token_words

MODULES = (rereading, deciding, reasons, asking)
"""What an emitted readable program needs to explain itself."""
DIGITS = 3
"""Digits of the mean of a feature."""
Spell = Callable[[Any], Any]


def laid_out(listing: ReadableListing, table: Spell, always: Spell) -> dict[str, Any]:
    """Lay out what turns features on, and what votes.

    Args:
        table: what stands for the table, the rules or the looks of a block.
        always: what stands for the votes that a block has whatever is on.
    """
    blocks: list[dict[str, Any]] = []
    votes: list[tuple[Any, ...]] = []
    for block in listing.program.blocks:
        match block:
            case Lookup(index=index) if listing.is_feature(block.name) and not listing.own.all_of(block.name):
                blocks.append({"kind": index, "table": table(block)})
            case Fire():
                blocks.append({"kind": "rules", "table": table(block)})
            case Looks(name=name, window=window):
                blocks.append({"kind": "looks", "table": table(block), "name": name, "window": window})
            case _:
                pass
    for name in listing.program.vote.reads:
        block = listing.by_name[name]
        match block:
            case Lookup(index=index):
                votes.append((index, table(block), None))
            case Votes():
                votes.append(("on", table(block), None))
            case Linear(reads=reads):
                voted = listing.by_name[reads]
                votes.append(("on", table(voted), table(block)))
                if isinstance(voted, Votes) and voted.bias is not None:
                    votes.append((ALWAYS, always(voted), table(block)))
            case _:
                raise AssertionError(f"{name} votes for no words")
        if isinstance(block, Votes | Linear) and block.bias is not None:
            votes.append((ALWAYS, always(block), None))
    return {"blocks": blocks, "votes": votes}


def source(laid: Mapping[str, Any]) -> str:
    """Write the function that lays the program out."""
    found = [
        "\n\ndef parts_of_program():",
        '    """Return what explanations walk: what turns features on, what votes, and what is said of features."""',
        "    return {",
    ]
    for name, value in laid.items():
        if isinstance(value, list):
            found += [f"        {name!r}: [", *(f"            {one!r}," for one in value), "        ],"]
        else:
            found.append(f"        {name!r}: {value!r},")
    return "\n".join([*found, "    }"])


def parts_of(program: Program, tokenizer: Tokenizer, labels: Labels) -> dict[str, Any]:
    """Lay a program out as the function ``parts_of_program`` of its emitted file does."""
    listing = ReadableListing(program, token_words(tokenizer), labels)
    more = {"words": listing.words, "means": means_of(listing), "conditions": conditions_of(listing)}
    known: dict[str, Any] = {}

    def table(block: Any) -> Any:
        if block.name not in known:
            rules = isinstance(block, Looks | Fire)
            known[block.name] = _rules(listing, block) if rules else _table(listing, block)
        return known[block.name]

    def always(block: Any) -> Any:
        names = range(program.d_vocab) if _is_of_words(listing, block) else listing.coordinates(block.name)
        return {ALWAYS: list(zip(names, _numbers(block.bias), strict=True))}

    return laid_out(listing, table, always) | more


def means_of(listing: ReadableListing) -> dict[str, float]:
    """Return the means of features over the text that they were named on, of those that vote and have one."""
    found = {}
    for name, features in listing.labels.features.items():
        for at, feature in enumerate(features):
            mean = float(f"{feature.frequency * feature.mean:.{DIGITS}g}")
            if mean and listing.votes_of(name, at):
                found[listing.names[name][at]] = mean
    return found


def conditions_of(listing: ReadableListing) -> dict[str, tuple[float, conditions.Spelt]]:
    """Return the condition of every feature that has one, with its precision."""
    told = listing.labels.explanations.items()
    return {
        listing.short_name(*feature): (found.precision, conditions.spelt(found.condition, listing.words))
        for feature, found in told
    }


def _is_of_words(listing: ReadableListing, block: Any) -> bool:
    return block.space == listing.program.vote.space


def _table(listing: ReadableListing, block: Lookup | Votes | Linear) -> Any:
    """Arrange a table as emitted files do: what is looked up in it -> pairs (name or number of a word, weight)."""
    table, names, members = listing.laid_out(block)
    own = listing.own.taken.get(block.name) if isinstance(block, Lookup) else None
    rows = range(table.shape[0]) if own is None else (~own).nonzero()[0].tolist()
    told = ((names[row], [(members[at], float(value)) for at, value in table.row(row)]) for row in rows)
    pairs: Any = [(name, terms) for name, terms in told if terms]
    keys: Any = None
    if isinstance(block, Lookup):
        keys = listing.words if block.index == "token" else list(map(str, range(listing.program.n_ctx)))
        pairs = turned(pairs) if listing.is_feature(block.name) else pairs
    elif isinstance(block, Linear) and _is_of_words(listing, listing.by_name[block.reads]):
        keys = listing.words
    return keyed(to_numbers(pairs, listing.words) if _is_of_words(listing, block) else pairs, keys)


def _rules(listing: ReadableListing, block: Looks | Fire) -> Any:
    """Arrange rules, or looks, as emitted files do."""
    ends = zip(_numbers(block.biases), _numbers(block.thresholds), strict=True)
    sums = listing.sums(block, "conditions")
    rules = [
        (name, _terms(terms), *end) for name, terms, end in zip(listing.names[block.name], sums, ends, strict=True)
    ]
    if isinstance(block, Fire):
        return by_feature(rules)
    sides = [
        (summed_up(_terms(query)), asked, summed_up(_terms(key)), offered)
        for query, asked, key, offered in zip(
            listing.sums(block, "queries"),
            _numbers(block.query_biases),
            listing.sums(block, "keys"),
            _numbers(block.key_biases),
            strict=True,
        )
    ]
    match, rule = iter(sides), iter(rules)
    lone = [summed_up(_terms(terms)) for terms in listing.sums(block, "lone_keys")]
    return [
        (curve, terms, [next(match) for _ in range(n)], by_feature([next(rule) for _ in range(m)]))
        for curve, terms, n, m in zip(_numbers(block.distance), lone, block.matches, block.moved, strict=True)
    ]


def _terms(terms: TermSum) -> list[tuple[str, float]]:
    return [*((the_word(name), value) for name, value in terms.words), *terms.features]


def _numbers(table: Table | SparseTable) -> Any:
    return table.values.astype(float).tolist()
