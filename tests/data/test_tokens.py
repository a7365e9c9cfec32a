"""The tokenizer readers against the `tokenizers` library and llama2.c's own examples, and all that they refuse."""

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HfTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from englishroom.data.spelling import beyond_vocabulary, with_unknown
from englishroom.data.tokens import read_hf_tokenizer, read_llama2c_tokenizer
from englishroom.errors import ArtifactError
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.tokenizer_json import tokenizer_from_json, tokenizer_to_json

STORY = """Once upon a time, there was a little girl named Lily. She loved to play outside in the park.
One day, she saw a big, red ball. "It's mine!" said the boy. "I don't think so," she'd say. They'll share it, I'm sure.

They ran and ran until it was dark. Then they went home and ate 12 cookies at the caf\u00e9.   The end. 2023, 100.
"""
END = "<|endoftext|>"
ASSIGNED = st.characters(exclude_categories=("Cs", "Cn"))  # Unicode's unassigned characters differ between versions
SIGNS = "  |   |\t|\r\n|\x1c|\x85|\xa0|\u2028|\u3000|'LL|'|\"|\u2019|e\u0301|\u00bd|\u0663|\U0001f388|\x00|<0x0A>"
SNIPPETS = st.sampled_from([*re.findall(r" ?\S+|\s", STORY), *SIGNS.split("|")])
TEXT = st.text(ASSIGNED) | st.lists(SNIPPETS | st.text(ASSIGNED, max_size=3)).map("".join)
slow = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def gpt2_json() -> dict[str, Any]:
    """Return the tokenizer.json of a small byte-level BPE trained on STORY."""
    tokenizer = HfTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([STORY], trainer)
    return json.loads(tokenizer.to_str())


def llama_json() -> dict[str, Any]:
    """Return the tokenizer.json of a small BPE with byte fallback whose merges cross from word to word."""
    tokenizer = HfTokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    replace = normalizers.Replace(" ", "\u2581")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), replace])
    byte_names = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=460, special_tokens=["<unk>", "<s>", "</s>", *byte_names], show_progress=False
    )
    tokenizer.train_from_iterator([STORY.replace("\n", ""), STORY], trainer)
    file = json.loads(tokenizer.to_str())
    del file["added_tokens"][3:]
    return file


GPT2, LLAMA = gpt2_json(), llama_json()
GPT2_SIZE, LLAMA_SIZE = len(GPT2["model"]["vocab"]), len(LLAMA["model"]["vocab"])


def copy(file: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(file))


def save(folder: Path, **files: Any) -> Path:
    """Write `files` (the dots of their names written as underscores at the end) into `folder`."""
    for name, content in files.items():
        stem, _, ending = name.rpartition("_")
        (folder / f"{stem}.{ending}").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def save_gpt2_in_parts(folder: Path, **files: Any) -> Path:
    lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in GPT2["model"]["merges"]]
    parts = {"vocab_json": GPT2["model"]["vocab"], "merges_txt": "#version: 0.2\n" + "\n".join(lines) + "\n"}
    return save(folder, **parts | files)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return read_hf_tokenizer(save(tmp_path_factory.mktemp("gpt2"), tokenizer_json=GPT2), GPT2_SIZE)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return read_hf_tokenizer(save(tmp_path_factory.mktemp("llama"), tokenizer_json=LLAMA), LLAMA_SIZE)


def oracle(file: dict[str, Any], specials: bool = False) -> HfTokenizer:
    tokenizer = HfTokenizer.from_str(json.dumps(file))
    tokenizer.encode_special_tokens = not specials  # its name for reading them as plain text
    return tokenizer


GPT2_ORACLE, LLAMA_ORACLE = oracle(GPT2), oracle(LLAMA)


@given(text=TEXT)
@slow
def test_byte_level_bpe_agrees_with_tokenizers(gpt2: Tokenizer, text: str) -> None:
    tokens = gpt2.encode(text)
    assert tokens == GPT2_ORACLE.encode(text).ids
    assert gpt2.decode(tokens) == GPT2_ORACLE.decode(tokens) == text


@given(text=TEXT)
@slow
def test_llama_bpe_agrees_with_tokenizers(llama: Tokenizer, text: str) -> None:
    tokens = llama.encode(text)
    assert llama.decode(tokens) == text
    if "\u2581" not in text:  # to `tokenizers` this is a space
        assert tokens == LLAMA_ORACLE.encode(text).ids


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("scheme", ["always", "first", "never"])
@given(text=TEXT)
@slow
def test_llama_bpe_cut_by_metaspace_agrees_with_tokenizers(tmp_path: Path, scheme: str, split: bool, text: str) -> None:
    file = copy(LLAMA) | {
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split},
    }
    tokenizer = read_hf_tokenizer(save(tmp_path, tokenizer_json=file), LLAMA_SIZE)
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    if "\u2581" not in text and not (text.startswith(" ") and scheme != "never"):
        assert tokens == oracle(file).encode(text).ids


def test_merges_of_words_cross_spaces_only_without_metaspace(llama: Tokenizer) -> None:
    """The small Llama vocabulary has pieces that go on after a space, or the tests above would show little."""
    assert any(b" " in llama.pieces[i].strip(b" ") for i in llama.encode(STORY))


def test_special_names_agree_with_tokenizers(gpt2: Tokenizer, llama: Tokenizer) -> None:
    text = f"The end.{END}Once upon{END}{END} a time"
    assert gpt2.encode(text, specials=True) == oracle(GPT2, specials=True).encode(text).ids
    assert gpt2.start_id not in gpt2.encode(text)
    assert gpt2.decode(gpt2.encode(text)) == text
    text = "The end.<s>Once upon<s> a time"
    assert llama.encode(text, specials=True) == oracle(LLAMA, specials=True).encode(text).ids


def test_start_and_stop_of_the_two_families(gpt2: Tokenizer, llama: Tokenizer) -> None:
    end = GPT2["model"]["vocab"][END]
    assert (gpt2.kind, gpt2.start_id, gpt2.stop_ids, gpt2.specials) == ("byte_bpe", end, (end,), (end,))
    assert (llama.kind, llama.start_id, llama.stop_ids) == ("sentencepiece", 1, (1, 2))
    assert llama.specials == (0, 1, 2)
    assert (gpt2.pieces[end], llama.pieces[1], llama.pieces[3 + 0x0A]) == (END.encode(), b"<s>", b"\n")


def test_vocab_and_merges_mean_the_same_as_tokenizer_json(gpt2: Tokenizer, tmp_path: Path) -> None:
    assert read_hf_tokenizer(save_gpt2_in_parts(tmp_path), GPT2_SIZE) == gpt2
    assert read_hf_tokenizer(save_gpt2_in_parts(tmp_path, config_json={"model_type": "gpt2"}), GPT2_SIZE) == gpt2


def test_merges_may_be_strings_or_lists(gpt2: Tokenizer, tmp_path: Path) -> None:
    for form in (lambda pair: " ".join(pair), list):
        file = copy(GPT2)
        file["model"]["merges"] = [
            form(merge.split(" ") if isinstance(merge, str) else merge) for merge in file["model"]["merges"]
        ]
        assert read_hf_tokenizer(save(tmp_path, tokenizer_json=file), GPT2_SIZE) == gpt2


def test_old_files_without_types_and_with_sequences_are_read(gpt2: Tokenizer, llama: Tokenizer, tmp_path: Path) -> None:
    file = copy(GPT2) | {"normalizer": {"type": "Sequence", "normalizers": []}}
    del file["model"]["type"]
    file["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [file["pre_tokenizer"]]}
    assert read_hf_tokenizer(save(tmp_path, tokenizer_json=file), GPT2_SIZE) == gpt2
    file = copy(LLAMA)
    file["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": False, "split": False}
    assert read_hf_tokenizer(save(tmp_path, tokenizer_json=file), LLAMA_SIZE) == llama


def test_padding_of_the_embedding_becomes_special(gpt2: Tokenizer, tmp_path: Path) -> None:
    padded = read_hf_tokenizer(save(tmp_path, tokenizer_json=GPT2), GPT2_SIZE + 2)
    assert padded.pieces == (*gpt2.pieces, b"", b"")
    assert padded.specials == (*gpt2.specials, GPT2_SIZE, GPT2_SIZE + 1)
    assert padded.encode(STORY + END, specials=True) == gpt2.encode(STORY + END, specials=True)
    assert padded.decode([GPT2_SIZE, *padded.encode("Lily"), GPT2_SIZE + 1]) == "Lily"


@pytest.mark.parametrize(
    ("files", "start", "stops"),
    [
        ({"tokenizer_config_json": {"bos_token": "<s>", "eos_token": {"content": "<unk>"}}}, 1, (0, 1)),
        ({"config_json": {"bos_token_id": 2, "eos_token_id": [1, 2]}}, 2, (1, 2)),
        ({"tokenizer_config_json": {"bos_token": "<s>"}, "config_json": {"bos_token_id": 2}}, 1, (1, 2)),
        ({"config_json": {"bos_token_id": 50256, "eos_token_id": 50256}}, 1, (1, 2)),
        ({"config_json": {"bos_token_id": 400, "eos_token_id": 13}}, 1, (1, 2)),
        ({"generation_config_json": {"eos_token_id": 0}, "config_json": {"eos_token_id": None}}, 1, (0, 1)),
        ({"tokenizer_config_json": {"bos_token": None, "pad_token": "<pad>"}}, 1, (1, 2)),
    ],
)
def test_start_and_stop_follow_the_configuration(
    tmp_path: Path, files: dict[str, Any], start: int, stops: tuple[int, ...]
) -> None:
    tokenizer = read_hf_tokenizer(save(tmp_path, tokenizer_json=LLAMA, **files), LLAMA_SIZE)
    assert (tokenizer.start_id, tokenizer.stop_ids) == (start, stops)


def test_named_tokens_beside_vocab_json_are_special(tmp_path: Path) -> None:
    extra = {str(GPT2_SIZE): {"content": "<chat>", "special": True}}
    folder = save_gpt2_in_parts(
        tmp_path,
        tokenizer_config_json={"pad_token": "<pad>", "added_tokens_decoder": extra},
        added_tokens_json={"<chat>": GPT2_SIZE, "<pad>": GPT2_SIZE + 1},
    )
    tokenizer = read_hf_tokenizer(folder, GPT2_SIZE + 2)
    assert tokenizer.encode("<pad><chat>", specials=True) == [GPT2_SIZE + 1, GPT2_SIZE]


def llama2c_bytes(pieces: list[tuple[float, bytes]], longest: int = 7) -> bytes:
    records = (struct.pack("<fi", score, len(piece)) + piece for score, piece in pieces)
    return struct.pack("<i", longest) + b"".join(records)


SPECIALS = [(0.0, b"<unk>"), (0.0, b"\n<s>\n"), (0.0, b"\n</s>\n")]
NEW_BYTES = [(0.0, b"<0x%02X>" % byte) for byte in range(256)]
OLD_BYTES = [(0.0, chr(byte).encode()) for byte in range(256)]
LETTERS = [(-1.5, " \u00e9".encode()), (-2.0, b" "), (-3.0, "\u00e9".encode()), (-4.0, b"a")]


@pytest.mark.parametrize("byte_pieces", [NEW_BYTES, OLD_BYTES], ids=["named", "written"])
def test_llama2c_bytes_are_read_from_both_exporters(tmp_path: Path, byte_pieces: list[tuple[float, bytes]]) -> None:
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(llama2c_bytes(SPECIALS + byte_pieces + LETTERS))
    tokenizer = read_llama2c_tokenizer(path, 263)
    assert tokenizer.pieces[3:259] == tuple(bytes([byte]) for byte in range(256))
    assert tokenizer.scores[-4:] == (-1.5, -2.0, -3.0, -4.0)
    assert (tokenizer.start_id, tokenizer.stop_ids, tokenizer.specials) == (1, (1, 2), (0, 1, 2))
    assert tokenizer.encode("\u00e9a\n\u00ea") == [259, 262, 3 + 0x0A, 3 + 0xC3, 3 + 0xAA]
    assert tokenizer.decode(tokenizer.encode("\u00e9a\n\u00ea")) == "\u00e9a\n\u00ea"


def test_llama2c_vocabularies_without_bytes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(llama2c_bytes(SPECIALS + LETTERS))
    tokenizer = read_llama2c_tokenizer(path, 7)
    assert tokenizer.encode("\u00e9a") == [3, 6]
    assert tokenizer.encode("\n\nab\n") == [4, 0, 6, 0], "token 0, once for a run of what has no piece"
    path.write_bytes(llama2c_bytes([(0.0, b"none"), *SPECIALS[1:], *LETTERS]))
    with pytest.raises(ValueError, match="the vocabulary has no token for byte 0x0a"):
        read_llama2c_tokenizer(path, 7).encode("\n")


@pytest.mark.parametrize("fused", [True, False])
def test_the_unknown_token_stands_for_what_cannot_be_spelled(tmp_path: Path, fused: bool) -> None:
    file = copy(LLAMA)
    file["model"]["fuse_unk"] = fused
    for byte in (0xC3, 0xF0, 0x0A):
        del file["model"]["vocab"][f"<0x{byte:02X}>"]
    tokenizer = read_hf_tokenizer(save(tmp_path, tokenizer_json=file), LLAMA_SIZE)
    assert (tokenizer.unknown_id, tokenizer.fuse_unknown) == (0, fused)
    for text in ("\u00e9\u00ea once\u00e9 upon", "a\n\n\U0001f388\u0663 \u00e9", "plain", "\u00e9"):
        assert tokenizer.encode(text) == oracle(file).encode(text).ids
    assert tokenizer_from_json(tokenizer_to_json(tokenizer)) == tokenizer
    whole = read_hf_tokenizer(save(tmp_path, tokenizer_json=LLAMA), LLAMA_SIZE)
    assert "unknown_id" not in tokenizer_to_json(whole), "what spells everything is written as before"


def test_the_unknown_token_of_byte_level_bpe(tmp_path: Path) -> None:
    file = copy(GPT2)
    file["model"]["unk_token"] = END
    for byte in (0xD0, 0xF0):
        del file["model"]["vocab"][chr(byte)]
    tokenizer = read_hf_tokenizer(save(tmp_path, tokenizer_json=file), GPT2_SIZE)
    for text in ("\u0436\u0437 once", "\U0001f388 upon", "plain"):
        assert tokenizer.encode(text) == oracle(file).encode(text).ids
    del file["model"]["unk_token"]
    without = read_hf_tokenizer(save(tmp_path, tokenizer_json=file), GPT2_SIZE)
    documents = ["plain", "\u0436 once", "\U0001f388"]
    assert beyond_vocabulary(without, documents) == {"\u0436 once": "\u0436", "\U0001f388": "\U0001f388"}
    assert beyond_vocabulary(tokenizer, documents) == {}
    assert with_unknown(tokenizer, documents) == 2


GOOD = llama2c_bytes(SPECIALS + LETTERS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "found 0 bytes, expected a llama2.c tokenizer"),
        (GOOD + b"\0" * 5, "the file ends inside piece 7; it is cut off, fetch it again"),
        (GOOD[:-1], "found 0 bytes of piece 6, expected 1; the file is cut off, or no llama2.c tokenizer"),
        (GOOD + struct.pack("<fi", 1.0, -5), "piece 7 of length -5, score 1.0; no llama2.c tokenizer"),
        (
            GOOD + struct.pack("<fi", float("nan"), 0),
            "piece 7 of length 0, score nan; no llama2.c tokenizer",
        ),
        (
            GOOD[:-9],
            (
                "wrong tokenizer for these weights: found 6 pieces, the weights have 7 tokens; "
                "use the tokenizer of the same model"
            ),
        ),
    ],
)
def test_damaged_llama2c_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=f"^{re.escape(f'{path}: {message}')}$"):
        read_llama2c_tokenizer(path, 7)


def test_a_missing_llama2c_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"gone\.bin: missing; fetch the file again$"):
        read_llama2c_tokenizer(tmp_path / "gone.bin", 512)


@pytest.mark.shared
def test_llama2c_prompts_have_the_tokens_of_its_own_tests(shared_dir: Path) -> None:
    """The expected tokens are Llama 2's, as llama2.c's test.c lists them, less the start token."""
    tokenizer = read_llama2c_tokenizer(shared_dir / "models/stories15M/tokenizer.bin", 32000)
    assert tokenizer.encode("I believe the meaning of life is") == [306, 4658, 278, 6593, 310, 2834, 338]
    assert tokenizer.encode("Simply put, the theory of relativity states that ") == (
        [3439, 17632, 1925, 29892, 278, 6368, 310, 14215, 537, 5922, 393, 29871]
    )


@pytest.mark.shared
@pytest.mark.parametrize(
    ("model", "vocab_size"), [("stories260K/tok512.bin", 512), ("stories15M/tokenizer.bin", 32000)]
)
def test_real_stories_survive_encoding(shared_dir: Path, model: str, vocab_size: int) -> None:
    tokenizer = read_llama2c_tokenizer(shared_dir / "models" / model, vocab_size)
    text = (shared_dir / "data/tinystories_valid.txt").read_text()[:300_000]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    with pytest.raises(ArtifactError, match=f"found {vocab_size} pieces, the weights have 4096 tokens"):
        read_llama2c_tokenizer(shared_dir / "models" / model, 4096)
