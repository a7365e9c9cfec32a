"""Small valid artefacts of every kind, made on the spot, and what the commands do with each.

``MAKERS`` names the kinds. An artefact is held in memory as names and bytes; ``use`` reads it from a folder, as a
command would, and raises what the command would raise.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import random
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch

from englishroom.cli import export, features, show, talk
from englishroom.data.overlap import MARKS_FILE, read_marks, write_marks
from englishroom.data.texts import open_text
from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.dictionaries.evidence.latent_evidence import read_evidence
from englishroom.dictionaries.formats import FORMATS, read_dictionaries, write_dictionaries
from englishroom.emit.python import Header, emit
from englishroom.errors import EnglishRoomError
from englishroom.evaluate.talk import TalkOptions
from englishroom.inside.labelling import label
from englishroom.ir.labels import Feature, Labels, load_labels
from englishroom.ir.program import Program, Rules
from englishroom.ir.room import load_program, pack
from englishroom.lower.featurise import featurise
from englishroom.manifest import SCHEMA_VERSION, Manifest
from englishroom.names import LABELS, TABLES
from englishroom.pipeline import open_talker
from englishroom.pipeline.commands import ReportConfig, ShowConfig, TalkConfig
from englishroom.pipeline.labelling import summary_lines_of
from englishroom.pipeline.reporting import report
from englishroom.sketch.folder import read_sketch, write_sketch
from englishroom.store import read_room, sha256, write_room
from englishroom.talkers.ngrams.model_file import load_ngrams, ngrams_to_bytes
from englishroom.talkers.ngrams.talker import fit_ngrams
from englishroom.talkers.record import read_training
from englishroom.talkers.shipped import shipped_path, shipped_room
from fuzz_mutate import Files
from programs import full_program, tokenizer_for
from tiny import make_gpt2, make_gpt_neo, make_llama, make_llama2c
from tiny_features import evidence, replacement, write_featured_room
from tiny_sketch import tokenizer as sketch_tokenizer
from tiny_slice import small_program, small_texts
from tiny_sparse import target_of

BRIEF = TalkOptions(greedy=True, max_tokens=2)


@dataclass(frozen=True)
class Artefact:
    """Files, and the ways in which commands use them.

    Attributes:
        use: each reads the artefact from its folder; a folder beside it may be written to.
        holds_hashes: the file with the hashes of the others, which are set right again after most mutations, so that
            what stands behind the hashes is reached.
    """

    files: Mapping[str, bytes]
    use: Sequence[Callable[[Path], object]]
    holds_hashes: str | None = None


def sealed(files: Files, artefact: Artefact) -> None:
    """Put the hashes of changed files in the place of the old ones, and the manifest's own hash."""
    name = artefact.holds_hashes
    if name is None or not isinstance(files.get(name), bytes):
        return
    listing = files[name]
    assert isinstance(listing, bytes)
    for other, before in artefact.files.items():
        now = files.get(other)
        if other != name and isinstance(now, bytes) and now != before:
            listing = listing.replace(sha256(before).encode(), sha256(now).encode())
    own = re.search(rb'"sha256": "([0-9a-f]{64})"', artefact.files[name][-200:])
    if name == "manifest.json" and own:
        listing = listing.replace(own[1], b"0" * 64)
        hashed = sha256(listing).encode()
        at = listing.rfind(b'"sha256": "' + b"0" * 64)
        if at >= 0:
            listing = listing[: at + 11] + hashed + listing[at + 75 :]
    files[name] = listing


def read_folder(folder: Path) -> dict[str, bytes]:
    """Take a folder into memory."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _made(make: Callable[[Path], object]) -> dict[str, bytes]:
    """Let something be written, and take it into memory."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "x")
        return read_folder(Path(folder) / "x")


# Rooms


def _room(program: Program, labels: Labels, more: Mapping[str, bytes]) -> dict[str, bytes]:
    tokenizer = tokenizer_for(program.d_vocab)
    files = pack(program, tokenizer)
    emitted = emit(program, tokenizer, Header("tiny"), sha256(files[TABLES]), labels)
    files |= {"program.py": emitted.text.encode(), "origins.json": json.dumps(emitted.origins).encode(), **more}
    if labels.features:
        files[LABELS] = labels.to_json()
    shipped = json.loads((shipped_room() / "manifest.json").read_bytes())
    target = {"name": "tiny", "sha256": "0" * 64, "parameters": 1, "spec": {"family": "gpt2", "d_model": 8}}

    def describe(_folder: Path) -> Manifest:
        facts = (
            shipped["config"] | {"model": "none-such"},
            0,
            shipped["records"],
            shipped["evidence"],
            {"python": "3"},
        )
        return Manifest(SCHEMA_VERSION, program.level, target, *facts)

    return _made(lambda path: write_room(path, files.items(), describe))


@cache
def _rooms() -> tuple[Artefact, ...]:
    kept = ("scores.json", "trace.json", "memory.json", "frontier.json")
    measured = {name: (shipped_room() / name).read_bytes() for name in kept}
    sparse = small_program()
    named = label(sparse, tokenizer_for(sparse.d_vocab), [text[:12] for text in small_texts(4)], "a text")
    drawn = full_program("sparse")
    sizes = {block.name: drawn.space(block.space).size for block in drawn.blocks if isinstance(block, Rules)}
    own = {name: tuple(Feature(f"rule:{i}", "like") for i in range(size)) for name, size in sizes.items()}
    model = replacement()
    target = replace(target_of(model), sources={name: name for name in model.weights})
    featured = featurise(target, model, errors=True)[0]
    uses = (_show, _talk, _emit, _report, _told)
    return (
        Artefact(_room(sparse, named, measured), (*uses, _explain), "manifest.json"),
        Artefact(_room(drawn, Labels(own), {}), uses, "manifest.json"),
        Artefact(_room(full_program("exact"), Labels(), {}), uses, "manifest.json"),
        Artefact(_room(featured, Labels(), {}), (*uses, _export), "manifest.json"),
    )


def _show(path: Path) -> None:
    show.Command(ShowConfig(path, blocks=True, records=True)).run()


def _talk(path: Path) -> None:
    talk.Command(TalkConfig(str(path), "ab", BRIEF)).run()


def _explain(path: Path) -> None:
    talk.Command(TalkConfig(str(path), "ab", BRIEF, explain=True)).run()


def _emit(path: Path) -> None:
    program, tokenizer = load_program(path)
    labels = load_labels(path, program)
    compile(emit(program, tokenizer, Header("tiny"), "0" * 64, labels).text, "program.py", "exec")


def _told(path: Path) -> None:
    summary_lines_of(read_room(path))


def _export(path: Path) -> None:
    export.Command(path, path.parent / "exported").run()


def _report(path: Path) -> None:
    text = path.parent / "text.txt"
    text.write_text("abcabcabca")
    report(ReportConfig(path, str(text)), path.parent / "report")


# Models


@cache
def _models() -> tuple[Artefact, ...]:
    small = {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 16}
    neo = {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "hidden_size": 8, "num_heads": 2}
    llama = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12}
    gpt2 = _made(lambda path: make_gpt2(path, **small))
    tiny = shipped_path("tiny-1l")
    assert tiny is not None
    gpt2["training.json"] = (tiny / "training.json").read_bytes()
    gpt2 |= _made(lambda path: (path.mkdir(), write_marks(path / MARKS_FILE, ["a b c", "d"])))
    torch_file = dict(gpt2)
    weights = torch_file.pop("model.safetensors")
    torch_file["pytorch_model.bin"] = _as_torch(weights)
    made = [
        gpt2,
        torch_file,
        _sharded(gpt2),
        _made(lambda path: make_gpt_neo(path, **neo)),
        _made(lambda path: make_llama(path, **llama)),
        _made(lambda path: make_llama2c(path, dim=8, hidden_dim=12, n_layers=1, n_heads=2, n_kv_heads=1)),
    ]
    return tuple(Artefact(files, (_run_model,)) for files in made)


def _as_torch(weights: bytes) -> bytes:
    stream = io.BytesIO()
    torch.save(safetensors.torch.load(weights), stream)
    return stream.getvalue()


def _sharded(model: Mapping[str, bytes]) -> dict[str, bytes]:
    files = dict(model)
    tensors = safetensors.torch.load(files.pop("model.safetensors"))
    names = sorted(tensors)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for shard, inside in shards.items():
        files[shard] = safetensors.torch.save({name: tensors[name] for name in inside})
    where = {name: shard for shard, inside in shards.items() for name in inside}
    files["model.safetensors.index.json"] = json.dumps({"metadata": {"total_size": 1}, "weight_map": where}).encode()
    return files


def _run_model(path: Path) -> None:
    read_training(path)
    if (path / MARKS_FILE).exists():
        read_marks(path / MARKS_FILE)
    talker = open_talker(str(path), check=False)
    tokens = [talker.tokenizer.start_id, *_encoded(talker.tokenizer, "Once upon a time")][: min(4, talker.n_ctx)]
    talker.log_probs(np.array([tokens]))
    talker.tokenizer.decode(tokens)


def _encoded(tokenizer, text: str) -> list[int]:
    """Encode a text; that a vocabulary cannot spell it is no fault of a file."""
    try:
        return tokenizer.encode(text)
    except ValueError:
        return []


# Dictionaries


@cache
def _dictionaries() -> tuple[Artefact, ...]:
    generator = torch.Generator().manual_seed(0)
    made: list[Dictionary] = []
    for layer in range(2):
        reads, writes = f"blocks.{layer}.ln2.hook_normalized", (f"blocks.{layer}.hook_mlp_out",)
        made.append(Dictionary.random(DictionarySpec(reads, writes, 6, 6, 10, "jumprelu", None), generator))
    site = "blocks.0.hook_resid_post"
    plain = [Dictionary.random(DictionarySpec(site, (site,), 6, 6, 10, "topk", 3), generator)]
    first, last = made[0].spec, made[1].spec
    crossing = (replace(first, writes=(*first.writes, *last.writes)), last)
    across = [Dictionary.random(spec, generator) for spec in crossing]
    batch = [Dictionary.random(DictionarySpec(site, (site,), 6, 6, 10, "batchtopk", 3), generator)]
    sets = [
        (form, dictionaries)
        for form in (known.name for known in FORMATS)
        for dictionaries in (made, plain, batch, across)
    ]
    found = []
    for form, dictionaries in sets:
        try:
            files = _made(lambda path, form=form, these=dictionaries: write_dictionaries(path, form, these, "tiny"))
        except EnglishRoomError:  # a format that does not hold such dictionaries
            continue
        found.append(Artefact(files, (_run_dictionaries,), "dictionaries.json" if form == "englishroom" else None))
    assert len(found) >= 11
    return tuple(found)


def _run_dictionaries(path: Path) -> None:
    for dictionary in read_dictionaries(path):
        dictionary.run(torch.ones(3, dictionary.spec.d_in, dtype=dictionary.weights["W_enc"].dtype))


# Evidence


@cache
def _evidence() -> tuple[Artefact, ...]:
    whole = evidence()
    room = _made(lambda path: write_featured_room(path, whole))
    tables = {name: data for name, data in room.items() if name.endswith(".parquet")}
    return (Artefact(room, (_list, _detail, _list_json), "manifest.json"), Artefact(tables, (read_evidence,)))


def _list(path: Path) -> None:
    features.Command(path, sort="mean", descending=True, limit=5).run()


def _list_json(path: Path) -> None:
    features.Command(path, site="blocks.0.hook_mlp_out", json=True).run()


def _detail(path: Path) -> None:
    features.Command(path, "rule.0.0").run()
    features.Command(path, "moved.1.3", json=True).run()


# Texts, n-grams and sketches


@cache
def _texts() -> tuple[Artefact, ...]:
    text = "Once upon a time.\n\nA dog.\n<|endoftext|>\nThe end.\n"
    rows = [{"text": part} for part in text.split("<|endoftext|>")]
    plain = {"a.txt": text.encode(), "b.xz": lzma.compress(text.encode())}
    lines = "\n".join(map(json.dumps, rows)).encode()
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row | {"n": 1} for row in rows]), stream)
    tables = {
        "a.jsonl": lines,
        "b.json": json.dumps(rows).encode(),
        "c.csv": b'n,text\n1,"Once, upon"\n2,The end.\n',
        "d.jsonl.gz": gzip.compress(lines, mtime=0),
        "e.parquet": stream.getvalue(),
    }
    made = [plain, *({name: data} for name, data in tables.items())]
    return tuple(Artefact(files, (_open_each,)) for files in made)


def _open_each(path: Path) -> None:
    for file in sorted(path.iterdir()):
        open_text(file, max_documents=2)


@cache
def _ngrams() -> tuple[Artefact, ...]:
    tokenizer = tokenizer_for(12)
    fitted = fit_ngrams(["abcabcab", "ccab", "abba"], tokenizer, 3)
    return (Artefact({"ngrams.safetensors": ngrams_to_bytes(fitted)}, (_run_ngrams,)),)


def _run_ngrams(path: Path) -> None:
    talker = load_ngrams(path / "ngrams.safetensors")
    talker.log_probs(np.array([[talker.tokenizer.start_id]]))


@cache
def _sketches() -> tuple[Artefact, ...]:
    record = {
        **{"talker": "tiny", "n_ctx": 24, "share": 0.5, "share_is": "", "share_of_choosing_text": 0.5},
        **{"asked_share": 0.5, "asked_lines": 9, "kept": True, "lines": 9, "characters": 99, "entries": 3},
        **{"kl_talker_sketch": 1.0, "kl_talker_unigram": 2.0, "cross_entropy": 1.0, "talker_cross_entropy": 1.0},
        **{"file_vs_fit_nats": 0.0, "gears": [], "search": [], "texts": {}, "config": {}, "versions": {}},
    }
    files = _made(lambda path: write_sketch(path, "N_CTX = 24\n", sketch_tokenizer(), record))
    return (Artefact(files, (read_sketch,), "sketch.json"),)


MAKERS: Mapping[str, Callable[[], tuple[Artefact, ...]]] = {
    "rooms": _rooms,
    "models": _models,
    "dictionaries": _dictionaries,
    "evidence": _evidence,
    "texts": _texts,
    "ngrams": _ngrams,
    "sketches": _sketches,
}


def draw(area: str, chance: random.Random) -> Artefact:
    """Draw an artefact of an area."""
    return chance.choice(MAKERS[area]())
