"""Decompile four small models that each know one algorithm, and count how few rules say it.

    python benchmarks/small_algorithms.py [--tasks majority copy sort induction] [--work FOLDER]

The targets are trained here, on documents drawn from a seed: MAJORITY says of zeros and ones which are more; UNIQUE
COPY says a string of different letters behind a colon, again and again; SORT says one in order; INDUCTION goes on with
a random string of different letters that is said again and again, with no mark where it begins. They have rotary
positions. Where the next letter is a matter of chance they learn to hold all letters alike. A third of what they train
on are longer strings, which the programs are never fitted on.

Each is decompiled by ``decompile --level readable --smallest 0.003``, and beside it stands the accuracy of target and
program wherever the algorithm knows the next letter, on strings of usual length and on longer ones. One thread; with
--work it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch.nn import functional as F

from englishroom.data.corpus import SEPARATOR, write_documents
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Fire, Looks
from englishroom.ir.room import load_program
from englishroom.models.adapters import llama
from englishroom.models.adapters.mapping import Config, write_weights
from englishroom.models.forward import forward, log_probs
from englishroom.names import PROGRAM
from englishroom.pipeline.decompile import decompile
from englishroom.pipeline.opening import open_target
from englishroom.pipeline.presets import preset_of
from englishroom.talkers.train import initial_weights, rate_factor

PAD = "."
Document = tuple[str, list[int]]
"""A text, and the places of the letters in it that the algorithm knows."""


def majority(rng: np.random.Generator, n: int, _letters: str, _most: int) -> Document:
    bits = rng.integers(0, 2, n | 1)
    return "".join(map(str, bits)) + f"={int(bits.mean() > 0.5)}", [len(bits) + 1]


def copy(rng: np.random.Generator, n: int, letters: str, most: int) -> Document:
    word = [":", *rng.permutation(list(letters))[:n]]
    return "".join(np.resize(word, most)), [*range(n + 2, most)]


def sort(rng: np.random.Generator, n: int, letters: str, _most: int) -> Document:
    word = "".join(rng.permutation(list(letters))[:n])
    return f":{word}:{''.join(sorted(word))}:", [*range(n + 2, 2 * n + 3)]


def induction(rng: np.random.Generator, n: int, letters: str, most: int) -> Document:
    word = rng.permutation(list(letters))[:n]
    return "".join(np.resize(word, most)), [*range(n + 1, most)]


@dataclass(frozen=True)
class Task:
    """A small target.

    Attributes:
        draw: makes a document with a string of so many letters.
        usual, longer: the least and the most letters of a string.
        rules: the bar, for moved features and rules together.
    """

    draw: Callable[..., Document]
    letters: str
    n_layers: int
    d_model: int
    steps: int
    usual: tuple[int, int]
    longer: tuple[int, int]
    contexts: tuple[int, int]
    rules: int

    def documents(self, seed: int, count: int, longer: bool = False) -> list[Document]:
        """Draw documents as long as the context."""
        rng, n_ctx = np.random.default_rng(seed), self.contexts[longer]
        low, high = self.longer if longer else self.usual
        drawn = [self.draw(rng, int(rng.integers(low, high + 1)), self.letters, n_ctx - 1) for _ in range(count)]
        return [(text.ljust(n_ctx - 1, PAD), known) for text, known in drawn]

    @property
    def vocabulary(self) -> list[str]:
        return [SEPARATOR, *self.letters, *{copy: ":", sort: ":.", majority: "=.", induction: ""}[self.draw]]

    def tokens(self, documents: list[Document]) -> torch.Tensor:
        """Encode documents, each behind the start token, [document, pos]."""
        place = {letter: at for at, letter in enumerate(self.vocabulary)}
        return torch.tensor([[0, *(place[letter] for letter in text)] for text, _ in documents])


TASKS = {
    "majority": Task(majority, "01", 1, 16, 1000, (3, 15), (17, 31), (20, 36), 10),
    "copy": Task(copy, "abcdefghijkl", 2, 32, 1200, (3, 6), (7, 10), (18, 28), 40),
    "sort": Task(sort, "abcdefghijkl", 1, 48, 1500, (2, 6), (7, 10), (16, 24), 60),
    "induction": Task(induction, "abcdefgh", 2, 32, 1200, (3, 6), (7, 8), (18, 24), 20),
}
BATCH, RATE = 64, 4e-3
LONGER_EVERY = 3
"""One batch in so many is of longer strings."""


def config_of(task: Task) -> dict:
    """Return the config.json of a target."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": task.n_layers,
        "hidden_size": task.d_model,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "intermediate_size": task.d_model,
        "max_position_embeddings": task.contexts[1],
        "vocab_size": len(task.vocabulary),
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def train(task: Task, folder: Path, steps: int, seed: int = 0) -> None:
    """Train a target, and write it as a folder that transformers loads."""
    family = llama.read(Config(config_of(task), "config.json"))
    weights = {name: w.requires_grad_() for name, w in initial_weights(family.spec, seed).items()}
    adam = torch.optim.AdamW(weights.values(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(steps):
        adam.param_groups[0]["lr"] = RATE * rate_factor(step, steps, 0.5)
        documents = task.documents(seed + 1000 + step, BATCH, longer=step % LONGER_EVERY == 0)
        tokens = task.tokens(documents)
        drawn = torch.from_numpy(np.random.default_rng(step).integers(1, len(task.vocabulary), tokens.shape))
        first = torch.tensor([known[0] for _, known in documents])[:, None] + 1  # the first that is no matter of chance
        aims = torch.where(torch.arange(tokens.shape[1]) < first, drawn, tokens)
        logits = forward(family.spec, weights, tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), aims[:, 1:].flatten())
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(weights.values()), 1.0)
        adam.step()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_of(task)))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_of(task)))
    safetensors.torch.save_file(write_weights(family, weights), folder / "model.safetensors")


def tokenizer_of(task: Task) -> dict:
    """Return a tokenizer.json of one token a letter."""
    import tokenizers

    vocabulary = {piece: at for at, piece in enumerate(task.vocabulary)}
    found = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    found.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = tokenizers.decoders.ByteLevel()
    found.add_special_tokens([SEPARATOR])
    return json.loads(found.to_str())


def accuracy(log_probs: np.ndarray, tokens: torch.Tensor, documents: list[Document]) -> float:
    """Return the share of the letters that the algorithm knows that are held most likely."""
    best, held = log_probs.argmax(-1), tokens.numpy()
    places = [(at, place) for at, (_, known) in enumerate(documents) for place in known]
    return float(np.mean([best[at, place] == held[at, place + 1] for at, place in places]))


def write_texts(task: Task, folder: Path, sizes: tuple[int, int, int]) -> dict[str, str]:
    """Write documents to fit on, to choose on and to report on, no two of them the same; return their files."""
    drawn = iter(dict.fromkeys(text for text, _ in task.documents(1, 4 * sum(sizes))))
    files = {part: str(folder / f"{part}.txt") for part in ("fit", "choose", "report")}
    for file, size in zip(files.values(), sizes, strict=True):
        write_documents(Path(file), list(islice(drawn, size)))
    return files


def measure(name: str, folder: Path, given: argparse.Namespace) -> str:
    """Train a target, decompile it, and return its row of the table."""
    task, model, room = TASKS[name], folder / "target", folder / "room"
    folder.mkdir(parents=True, exist_ok=True)
    if not (model / "model.safetensors").exists():
        train(task, model, given.steps or task.steps)
    if not (room / PROGRAM).exists():
        files = write_texts(task, folder, tuple(given.documents))
        texts = {"fit": (files["fit"],), "choose": files["choose"], "report": files["report"]}
        settings = {"smallest": given.smallest, "context": task.contexts[0], "check": False, "blank_lines": "keep"}
        settings |= {
            name: value for name in ("smallest_first_steps", "smallest_steps") if (value := getattr(given, name))
        }
        decompile(preset_of("fast", "readable").changed(model=str(model), **texts, **settings), room, say)
    program, _ = load_program(room)
    target, _ = open_target(str(model))
    found = []
    for longer in (False, True):
        documents = task.documents(2, given.held_out, longer)
        tokens = task.tokens(documents)
        interpreter = Interpreter(replace(program, n_ctx=task.contexts[1]), np.float64)
        for answers in (log_probs(target.spec, target.weights, tokens).numpy(), interpreter.log_probs(tokens.numpy())):
            found.append(f"{accuracy(answers, tokens, documents):.1%}")
    moved = sum(len(block.biases.values) for block in program.blocks if isinstance(block, Looks))
    rules = sum(len(block.biases.values) for block in program.blocks if isinstance(block, Fire))
    sums = sum(
        int((np.diff(table.starts) > 0).sum())
        for block in program.blocks
        if isinstance(block, Looks)
        for table in (block.queries, block.keys, block.lone_keys)
    )
    cells = (
        name,
        *found,
        f"{moved + rules} of {task.rules}",
        moved,
        rules,
        sums,
        lines_of((room / PROGRAM).read_text()),
    )
    return f"| {' | '.join(map(str, cells))} |"


def say(line: str) -> None:
    """Say on the terminal what a decompilation says, beside the table."""
    print(line, file=sys.stderr, flush=True)


def lines_of(source: str) -> int:
    """Count the lines of what a program knows: neither remarks nor lines that go on."""
    known = source[source.index("# 2. What it knows") : source.index("# 3. How it talks")]
    return sum(line[:1] not in ("", "#", " ") and '"""' not in line for line in known.splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--smallest", type=float, default=0.003, help="nats that leaving parts out may cost")
    parser.add_argument("--documents", nargs=3, type=int, default=[1000, 200, 200], help="to fit, choose and report on")
    parser.add_argument("--held-out", type=int, default=400, help="strings on which accuracy is measured")
    parser.add_argument("--steps", type=int, help="of the training of each target")
    parser.add_argument("--smallest-first-steps", type=int)
    parser.add_argument("--smallest-steps", type=int)
    parser.add_argument("--work", type=Path, help="folder to keep targets and rooms in")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| algorithm | target, usual | program | target, longer | program | rules and moved features | moved | rules |"
        " looks' own sums | lines |\n" + "|" + " -- |" * 10,
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in given.tasks:
            print(measure(name, (given.work or Path(folder)) / name, given), flush=True)


if __name__ == "__main__":
    main()
