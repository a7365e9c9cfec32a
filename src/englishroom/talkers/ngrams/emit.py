"""Write an n-gram talker as a folder with a Python program that imports only the standard library, and its tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

import englishroom
from englishroom.disk import write_folder
from englishroom.emit import tables as table_text
from englishroom.emit.prelude import loading, talking
from englishroom.emit.source import Verbatim
from englishroom.ir import tokenizer as tokenizer_module
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.wording import docstring
from englishroom.names import PROGRAM, TABLES
from englishroom.store import sha256
from englishroom.talkers.ngrams import mixing
from englishroom.talkers.ngrams.model_file import ngrams_to_bytes
from englishroom.talkers.ngrams.talker import NgramTalker

READ = '''
def new_memory():
    """Return an empty memory: {memory}."""
    return []


def step(token, position, memory):
    """Read one token; return the log-probabilities of every token that may come next."""
    if token == TOKENIZER.start_id:
        memory.clear()
    memory.append(token)
'''
"""How every program begins to read a token."""
STEP = f"""{READ.format(memory="the last tokens of the story")}\
    del memory[: max(0, len(memory) - len(NGRAMS) + 1)]
    chances = UNIGRAMS
    for length in range(1, len(memory) + 1):  # the longer the context, the more it has to say
        place = find(NGRAMS, memory[-length:])
        if place is None:
            break
        chances = mix(chances, NGRAMS[length], place)
    return list(map(math.log, chances))
"""


def emit_ngrams(talker: NgramTalker, out: Path) -> None:
    """Write ``program.py`` and ``tables.safetensors`` into a new folder, or an empty one; whole or not at all.

    Raises:
        ConfigError: there is something at ``out`` already.
        ArtifactError: the folder cannot be written.
    """
    tables = ngrams_to_bytes(talker)
    write_folder(out, {PROGRAM: spell_ngrams(talker, sha256(tables)).encode(), TABLES: tables})


def spell_ngrams(talker: NgramTalker, tables_sha256: str) -> str:
    """Write the program of a talker, whose tables have a hash."""
    model = talker.model
    sizes = [f"{len(level.tokens):,} of {length}" for length, level in enumerate(model.levels, 1)]
    header = [
        f"A program that talks: {talker.name}, counted on a text and smoothed (modified Kneser-Ney).",
        "",
        f"Written by englishroom {englishroom.__version__}. It needs nothing but Python 3.11 or later.",
        f"{model.d_vocab:,} tokens; n-grams by length: {', '.join(sizes)}.",
        f"sha256 of the text: {talker.text_sha256 or 'not known'}.",
        "",
        "To read it, begin at step(): it takes one token and says how likely every next token is. It begins with how",
        "common each token is, and asks ever longer contexts, as far back as the text had them, what came after them.",
        "NGRAMS has, by length: where the n-grams that begin alike begin, their last tokens, their counts (of the",
        "longest, how often they occur; of shorter ones, how many different tokens stand before them), and discounts.",
    ]
    definitions = "\n".join(ngram_definitions(talker))
    return spell_program(
        header, STEP, ("find", "mix", "rows"), (mixing,), definitions, talker.tokenizer, talker.n_ctx, tables_sha256
    )


def ngram_definitions(talker: NgramTalker) -> list[str]:
    """Spell ``NGRAMS`` and ``UNIGRAMS`` as n-gram programs have them."""
    first, *others = talker.model.levels
    levels = [f'    ((0, D_VOCAB), range(D_VOCAB), rows("counts_1"), {first.discounts}),']
    for length, level in enumerate(others, 2):
        parts = ", ".join(f'rows("{part}_{length}")' for part in ("starts", "tokens", "counts"))
        levels += [f"    ({parts},", f"     {level.discounts}),"]
    return ["NGRAMS = (", *levels, ")", "UNIGRAMS = mix([1 / D_VOCAB] * D_VOCAB, NGRAMS[0], 0)"]


def spell_program(
    header: Sequence[str],
    step: str,
    calls: Iterable[str],
    modules: Sequence[ModuleType],
    definitions: str,
    tokenizer: Tokenizer,
    n_ctx: int,
    tables_sha256: str,
) -> str:
    """Write a program that talks: a step of its own, and all that emitted programs share.

    Args:
        header: lines of its docstring.
        step: code of ``new_memory`` and ``step``, which needs ``math``.
        calls: functions that ``step`` and ``definitions`` call.
        modules: where those are copied from that are not shared ones.
        definitions: code that makes what ``step`` reads from ``TABLES``.
    """
    shared = (talking, tokenizer_module, loading)
    verbatim = Verbatim((*modules, *shared))
    needed = verbatim.needed({"main", "log_probs", "talk", "Tokenizer", "numbers", "load_tables", *calls})
    texts = {name: verbatim.pieces[name][0] for name in needed}

    def copied(*sources: ModuleType) -> str:
        return "".join(f"\n\n{text}\n" for name, text in texts.items() if verbatim.module_of[name] in sources)

    how_to = [
        "",
        'To hear it:  python program.py "Once upon a time"  (--help lists the options)',
        "In Python:   import program",
        "             ''.join(program.talk('Once upon a time', seed=1))",
        "             program.log_probs(tokens)",
    ]
    return "\n".join(
        [
            docstring([*header, *how_to]) + "\n",
            *verbatim.imports_of([*texts.values(), step]),
            f"\nN_CTX = {n_ctx}\nD_VOCAB = {len(tokenizer.pieces)}\n",
            "\n# 1. How it thinks, one token at a time" + f"\n{step}{copied(*modules)}",
            "\n# 2. How it talks" + copied(talking),
            "\n# 3. Its tokenizer" + copied(tokenizer_module),
            "\n# 4. Its tables, which stand in tables.safetensors" + copied(loading),
            table_text.tokenizer_literal(tokenizer),
            f'\nTABLES = load_tables(__file__, "{tables_sha256}")\n{definitions}\nTABLES.clear()\n',
            'if __name__ == "__main__":\n    main()\n',
        ]
    )
