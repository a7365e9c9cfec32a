"""Tokenizers as JSON text: written whole, read strictly."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, with_config

from englishroom.errors import ArtifactError
from englishroom.ir.tokenizer import Tokenizer
from englishroom.untrusted import parse_json


@with_config(ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
@dataclass(frozen=True)
class _TokenizerFile:
    """The fields of `Tokenizer`, each byte of a piece as the character of the same number (Latin-1)."""

    kind: Literal["byte_bpe", "sentencepiece"]
    pieces: tuple[str, ...]
    merges: tuple[tuple[int, int], ...]
    scores: tuple[float, ...]
    byte_ids: tuple[int, ...]
    specials: tuple[int, ...]
    start_id: int
    stop_ids: tuple[int, ...]
    prefix_space: bool
    unknown_id: int = -1
    fuse_unknown: bool = False


_FORM = TypeAdapter(_TokenizerFile)


def tokenizer_to_json(tokenizer: Tokenizer) -> str:
    """Write `tokenizer` as one line of ASCII that `tokenizer_from_json` turns into an equal tokenizer."""
    fields = {field.name: getattr(tokenizer, field.name) for field in dataclasses.fields(tokenizer)}
    if tokenizer.unknown_id == -1:  # as files have it since before there was one
        del fields["unknown_id"], fields["fuse_unknown"]
    fields["pieces"] = [piece.decode("latin-1") for piece in tokenizer.pieces]
    return json.dumps(fields, allow_nan=False)


def tokenizer_from_json(text: str | bytes, where: str = "tokenizer") -> Tokenizer:
    """Read what `tokenizer_to_json` wrote.

    Args:
        text: the JSON text.
        where: what error messages call it, best the path it came from.

    Raises:
        ArtifactError: not JSON, a field is missing, unknown or of the wrong type, or the fields do not fit together.
    """
    file = parse_json(text, _FORM, where, "restore the file")
    try:
        pieces = tuple(piece.encode("latin-1") for piece in file.pieces)
    except UnicodeEncodeError as error:
        raise ArtifactError(
            f"{where}: pieces: found {error.object!r:.60}, expected characters up to U+00FF, one for each byte"
        ) from None
    tokenizer = Tokenizer(
        kind=file.kind,
        pieces=pieces,
        merges=file.merges,
        scores=file.scores,
        byte_ids=file.byte_ids,
        specials=file.specials,
        start_id=file.start_id,
        stop_ids=file.stop_ids,
        prefix_space=file.prefix_space,
        unknown_id=file.unknown_id,
        fuse_unknown=file.fuse_unknown,
    )
    check_tokenizer(tokenizer, where)
    return tokenizer


def check_tokenizer(tokenizer: Tokenizer, where: str) -> None:
    """Refuse a tokenizer whose fields do not fit together, so that it would fail only when some text meets the fault.

    Raises:
        ArtifactError: names `where` and the first fault.
    """
    for fault in _faults(tokenizer):
        raise ArtifactError(f"{where}: {fault}")


def _faults(tokenizer: Tokenizer) -> Iterator[str]:
    """Yield what is wrong; each check may rely on those before it."""
    pieces, specials, count = tokenizer.pieces, set(tokenizer.specials), len(tokenizer.pieces)
    for name, tokens in {
        "specials": tokenizer.specials,
        "start_id": (tokenizer.start_id,),
        "stop_ids": tokenizer.stop_ids,
        "merges": [token for pair in tokenizer.merges for token in pair],
        "byte_ids": [token for token in tokenizer.byte_ids if token != -1],
        "unknown_id": [token for token in (tokenizer.unknown_id,) if token != -1],
    }.items():
        for token in tokens:
            if not 0 <= token < count:
                yield f"{name}: found token {token}, expected one of the {count} pieces"
    if len(tokenizer.byte_ids) != 256:
        yield f"byte_ids: found {len(tokenizer.byte_ids)} entries, expected 256"
    for byte, token in enumerate(tokenizer.byte_ids):
        if token in specials:
            yield f"byte_ids: entry {byte} is token {token}, which is special, expected an ordinary one"
        if token != -1 and pieces[token] != bytes([byte]):
            yield f"byte_ids: entry {byte} is token {token}, found {pieces[token]!r}, expected {bytes([byte])!r}"
    if tokenizer.unknown_id not in (-1, *specials):
        yield f"unknown_id: token {tokenizer.unknown_id} is an ordinary one, expected one of the specials"
    if tokenizer.fuse_unknown and tokenizer.unknown_id == -1:
        yield "fuse_unknown: found true without an unknown_id"
    for token in tokenizer.specials:
        if not _is_utf8(pieces[token]):
            yield f"specials: the name of token {token} is {pieces[token]!r}, expected UTF-8"
    if tokenizer.scores and tokenizer.kind == "byte_bpe":
        yield "scores: found scores in a byte-level tokenizer, expected merges alone"
    if tokenizer.scores and tokenizer.merges:
        yield "scores: found scores and merges, expected one of them"
    if tokenizer.scores and len(tokenizer.scores) != count:
        yield f"scores: found {len(tokenizer.scores)}, expected one for each of the {count} pieces"
    barred = specials | set(tokenizer.byte_ids if tokenizer.kind == "sentencepiece" else ())
    ordinary = {piece for token, piece in enumerate(pieces) if token not in barred}
    for rank, (left, right) in enumerate(tokenizer.merges):
        if barred.intersection((left, right)) or pieces[left] + pieces[right] not in ordinary:
            yield f"merges: merge {rank} of {pieces[left]!r} and {pieces[right]!r} does not join ordinary pieces to one"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
