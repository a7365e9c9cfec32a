"""Read the tokenizers of llama2.c and of Hugging Face folders.

Only the two kinds that `englishroom.ir.tokenizer` knows are read; anything else is refused by name, since a tokenizer
that is almost right changes every number measured after it.

Two differences from the `tokenizers` library are meant, both so that decoding gives back the text: a text that begins
with a space gets the prefix space all the same (as SentencePiece does), and U+2581 in a text is not a space.
"""

import math
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from englishroom.data.hf_tokenizer_files import LLAMA_SPACE, SUPPORTED, TokenizerFiles, read_tokenizer_files
from englishroom.errors import ArtifactError, UnsupportedModelError
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.tokenizer_json import check_tokenizer
from englishroom.untrusted import read_bytes

LLAMA_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
USUAL_NAMES = {"bos": ("<s>", "<|endoftext|>"), "eos": ("</s>", "<|endoftext|>")}


def read_llama2c_tokenizer(path: str | Path, vocab_size: int) -> Tokenizer:
    """Read a `tokenizer.bin` of llama2.c: int32 longest piece, then (float32 score, int32 length, bytes) to the end.

    Tokens 0, 1 and 2 are unknown, start and end; 3 to 258 are the bytes. The bytes are named "<0x0A>", or in files of
    older exporters written as the character of that number in UTF-8.

    Args:
        path: the file.
        vocab_size: the vocabulary size of the model's weights.

    Raises:
        ArtifactError: the file is damaged, or has another number of pieces than the weights.
    """
    path = Path(path)
    pieces, scores = _read_scored_pieces(path)
    if len(pieces) != vocab_size or vocab_size < 3:
        raise ArtifactError(
            f"{path}: wrong tokenizer for these weights: "
            f"found {len(pieces)} pieces, the weights have {vocab_size} tokens; use the tokenizer of the same model"
        )
    byte_ids = _llama2c_byte_ids(pieces)
    for byte, token in enumerate(byte_ids):
        if token != -1:
            pieces[token] = bytes([byte])
    unknown = 0 if byte_ids[0] == -1 and pieces[0] == b"<unk>" else -1
    tokenizer = Tokenizer(
        kind="sentencepiece",
        pieces=tuple(pieces),
        merges=(),
        scores=tuple(scores),
        byte_ids=byte_ids,
        specials=(0, 1, 2),
        start_id=1,
        stop_ids=(1, 2),
        prefix_space=True,
        unknown_id=unknown,
        fuse_unknown=unknown != -1,
    )
    check_tokenizer(tokenizer, str(path))
    return tokenizer


def read_hf_tokenizer(path: str | Path, vocab_size: int) -> Tokenizer:
    """Read the tokenizer of a Hugging Face model folder: tokenizer.json, or else vocab.json with merges.txt.

    The start and stop tokens are those that tokenizer_config.json, generation_config.json and config.json name. A
    number there is passed over when plain text can produce that token or the vocabulary does not reach it, since these
    files often keep another model's default. The start token stops too: it begins the next text. Tokens between the
    vocabulary and `vocab_size` (padding of the embedding) become special tokens without a name.

    Args:
        path: the model's folder, or a tokenizer.json under any name.
        vocab_size: the vocabulary size of the model's weights.

    Raises:
        ArtifactError: a file is missing or damaged, or the vocabulary is larger than `vocab_size`.
        UnsupportedModelError: the tokenizer is of another kind.
    """
    files = read_tokenizer_files(Path(path))
    byte_level = files.kind == "byte_bpe"
    ids = _all_ids(files, vocab_size)
    start, stops, specials = _roles(files, ids)
    pieces = [b""] * vocab_size
    byte_ids = [-1] * 256
    for name, token in ids.items():
        if token in specials:
            pieces[token] = name.encode()
            continue
        pieces[token] = _gpt2_bytes(name, files.path) if byte_level else _llama_bytes(name)
        if len(name) == 1 if byte_level else LLAMA_BYTE.fullmatch(name):
            byte_ids[pieces[token][0]] = token
    _check_distinct(pieces, specials | set(byte_ids), files.path)
    unknown = ids.get(files.unknown or "", -1) if -1 in byte_ids else -1
    unknown = unknown if unknown in specials else -1
    tokenizer = Tokenizer(
        kind=files.kind,
        pieces=tuple(pieces),
        merges=tuple(_numbered_merges(files)),
        scores=(),
        byte_ids=tuple(byte_ids),
        specials=tuple(sorted(specials | set(range(vocab_size)).difference(ids.values()))),
        start_id=start,
        stop_ids=stops,
        prefix_space=files.prefix_space,
        unknown_id=unknown,
        fuse_unknown=unknown != -1 and files.fuse_unknown,
    )
    check_tokenizer(tokenizer, str(files.path))
    return tokenizer


def rows_without_token(tokenizer: Tokenizer) -> int:
    """Count the rows of a model's vocabulary for which its tokenizer has no token."""
    return sum(not tokenizer.pieces[token] for token in tokenizer.specials)


def check_rows(tokenizer: Tokenizer, where: str | Path) -> None:
    """Refuse a tokenizer that leaves more rows of a model without a token than padding explains.

    Vocabularies are padded to a multiple of a power of two, 512 at most in the models that are published; short ones
    to a multiple of 64.

    Raises:
        ArtifactError: names how many rows there are, and how many of them have no token.
    """
    rows, bare = len(tokenizer.pieces), rows_without_token(tokenizer)
    if bare >= max(64, min(512, rows // 10)):
        raise ArtifactError(
            f"{where}: wrong tokenizer for these weights: {bare:,} of the {rows:,} rows of their vocabulary have no "
            "token in it, more than padding explains; use the tokenizer of the same model"
        )


def _read_scored_pieces(path: Path) -> tuple[list[bytes], list[float]]:
    data = read_bytes(path, "fetch the file again")
    if len(data) < 4:
        raise ArtifactError(f"{path}: found {len(data)} bytes, expected a llama2.c tokenizer")
    pieces: list[bytes] = []
    scores: list[float] = []
    at = 4
    while at < len(data):
        if len(data) < at + 8:
            raise ArtifactError(f"{path}: the file ends inside piece {len(pieces)}; it is cut off, fetch it again")
        score, length = struct.unpack_from("<fi", data, at)
        at += 8
        if length < 0 or not math.isfinite(score):
            raise ArtifactError(f"{path}: piece {len(pieces)} of length {length}, score {score}; no llama2.c tokenizer")
        if len(data) < at + length:
            raise ArtifactError(
                f"{path}: found {len(data) - at} bytes of piece {len(pieces)}, expected {length}; the file is cut off, "
                "or no llama2.c tokenizer"
            )
        pieces.append(data[at : at + length])
        scores.append(score)
        at += length
    return pieces, scores


def _llama2c_byte_ids(pieces: Sequence[bytes]) -> tuple[int, ...]:
    """Return the token of each byte, -1 for all where the vocabulary was trained without byte fallback."""
    named = [b"<0x%02X>" % byte for byte in range(256)]
    written = [chr(byte).encode() for byte in range(256)]
    return tuple(range(3, 259)) if pieces[3:259] in (named, written) else (-1,) * 256


def _all_ids(files: TokenizerFiles, vocab_size: int) -> dict[str, int]:
    """Return the token of every name, added ones included, each token once and below `vocab_size`."""
    ids = dict(files.ids)
    for token in files.added:
        if ids.setdefault(token.content, token.id) != token.id:
            raise ArtifactError(
                f"{files.path}: found the added token {token.content!r} as {token.id}, "
                f"but the vocabulary has it as {ids[token.content]}"
            )
    owners: dict[int, str] = {}
    for name, token in ids.items():
        if token < 0 or token in owners:
            clash = f"that of {owners[token]!r} too" if token in owners else "below 0"
            raise ArtifactError(f"{files.path}: found {name!r} with number {token}, {clash}; expected one of its own")
        owners[token] = name
    if max(owners, default=0) >= vocab_size:
        raise ArtifactError(
            f"{files.path}: wrong tokenizer for these weights: "
            f"found token {max(owners)}, the weights have {vocab_size} tokens; use the tokenizer of the same model"
        )
    return ids


def _roles(files: TokenizerFiles, ids: dict[str, int]) -> tuple[int, tuple[int, ...], set[int]]:
    """Return the start token, the stop tokens, and all special tokens that have a name."""
    merged = {left + right for left, right in files.merges}
    rare = {  # plain text cannot produce these
        name: token
        for name, token in ids.items()
        if len(name) > 1 and name not in merged and (files.kind == "byte_bpe" or not LLAMA_BYTE.fullmatch(name))
    }

    def find(role: str) -> list[int]:
        named = [rare[name] for name in (files.names.get(role),) if name in rare]
        listed = [token for token in files.listed[role] if token in rare.values()]
        usual = [rare[name] for name in USUAL_NAMES[role] if name in rare]
        return [*named, *listed] or usual[:1]

    ends = find("eos")
    starts = find("bos") or ends
    if not starts:
        raise ArtifactError(
            f"{files.path}: found no start or end token, expected bos_token or eos_token in tokenizer_config.json, or "
            "bos_token_id or eos_token_id in config.json"
        )
    specials = {starts[0], *ends, *(rare[name] for name in files.names.values() if name in rare)}
    for token in files.added:
        if token.content not in rare or not (token.special or token.id in specials):
            fault = "which is not special" if token.content in rare else "which plain text produces too"
            raise UnsupportedModelError(f"{files.path}: found the added token {token.content!r}, {fault}; {SUPPORTED}")
    return starts[0], tuple(sorted({starts[0], *ends})), specials.union(token.id for token in files.added)


def _numbered_merges(files: TokenizerFiles) -> Iterator[tuple[int, int]]:
    for rank, (left, right) in enumerate(files.merges):
        for name in (left, right, left + right):
            if name not in files.ids:
                raise ArtifactError(
                    f"{files.path}: found merge {rank} of {left!r} and {right!r}, but {name!r} is not in the vocabulary"
                )
        yield files.ids[left], files.ids[right]


def _check_distinct(pieces: Sequence[bytes], barred: set[int], path: Path) -> None:
    """Refuse two tokens for the same bytes: which of them spells a text would be a guess."""
    owners: dict[bytes, int] = {}
    for token, piece in enumerate(pieces):
        if token not in barred and piece and owners.setdefault(piece, token) != token:
            raise UnsupportedModelError(f"{path}: tokens {owners[piece]} and {token} both spell {piece!r}; {SUPPORTED}")


def _llama_bytes(name: str) -> bytes:
    """Return the bytes of a piece of a Llama vocabulary."""
    if match := LLAMA_BYTE.fullmatch(name):
        return bytes([int(match[1], 16)])
    return name.replace(LLAMA_SPACE, " ").encode()


def _gpt2_bytes(name: str, path: Path) -> bytes:
    """Return the bytes of a piece written in GPT-2's byte alphabet."""
    try:
        return bytes(GPT2_ALPHABET[character] for character in name)
    except KeyError:
        raise UnsupportedModelError(f"{path}: piece {name!r} is not in GPT-2's byte alphabet; {SUPPORTED}") from None


def _gpt2_alphabet() -> dict[str, int]:
    """Return the byte that each character of GPT-2's alphabet stands for.

    Bytes that are visible characters of Latin-1 are written as such, the others as U+0100, U+0101 and so on.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + i): byte for i, byte in enumerate(hidden)}


GPT2_ALPHABET = _gpt2_alphabet()
