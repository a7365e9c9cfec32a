"""A sketch on disk: ``sketch.py``, what was measured of it, and the tokenizer of its talker."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, with_config

from englishroom.disk import finish, is_leftover, make_folder, replace_files
from englishroom.errors import ArtifactError, ConfigError, one_line
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.tokenizer_json import tokenizer_from_json, tokenizer_to_json
from englishroom.names import TOKENIZER
from englishroom.plain import to_json
from englishroom.store import sha256
from englishroom.untrusted import parse_json, parse_text, read_bytes
from englishroom.written import remember

SOURCE, RECORD = "sketch.py", "sketch.json"
FORMAT = "englishroom sketch"
_ADVICE = "sketch the talker again"
_OURS = {SOURCE, RECORD, TOKENIZER, "__pycache__"}
SHARE = "1 - KL(talker‖sketch) / KL(talker‖unigram), the unigram being the talker's mean over the fitting text"


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True)
class SketchRecord:
    """What a sketch says of itself; every KL is KL(talker‖...), in nats per token of the reporting text.

    Attributes:
        share_is: how ``share`` is defined.
        kept: whether the share that was asked for is kept, on the choosing text.
        gears: ranked, as rows of ``rank.GearRow``.
        search: sketches that the search went through, as rows of ``checkpoint.SearchPoint``.
        cross_entropy, talker_cross_entropy: nats per token of the reporting text itself.
        files: hashes of the other files.
    """

    talker: str
    n_ctx: int
    share: float
    share_is: str
    share_of_choosing_text: float
    asked_share: float | None
    asked_lines: int
    kept: bool
    lines: int
    characters: int
    entries: int
    kl_talker_sketch: float
    kl_talker_unigram: float
    cross_entropy: float
    talker_cross_entropy: float
    file_vs_fit_nats: float
    gears: list[dict[str, Any]]
    search: list[dict[str, Any]]
    texts: dict[str, Any]
    config: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, str]
    format: str = FORMAT


_FORM = TypeAdapter(SketchRecord)


def looks_like_sketch(path: Path) -> bool:
    """Say whether a path should be read as a sketch."""
    return (path / RECORD).is_file() and (path / SOURCE).is_file()


def check_place(path: Path) -> None:
    """See that a sketch may be written to a folder.

    Raises:
        ConfigError: something else stands there, or there is no folder to put it into.
    """
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path.parent}: no such folder; create it first, or choose another --out")
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path}: a file, expected a folder or nothing; choose another --out")
    if path.is_dir() and (other := sorted(file.name for file in path.iterdir() if not _is_ours(file.name))):
        raise ConfigError(f"{path}: holds other things than a sketch ({one_line(other[0])}); choose another --out")


def _is_ours(name: str) -> bool:
    return name in _OURS or is_leftover(name)


def write_sketch(path: Path, source: str, tokenizer: Tokenizer, record: dict[str, Any]) -> SketchRecord:
    """Write a sketch, its files together, so that those of different sketches never pass for one."""
    check_place(path)
    make_folder(path)
    contents = {SOURCE: source.encode(), TOKENIZER: tokenizer_to_json(tokenizer).encode()}
    made = SketchRecord(**record, files={name: sha256(data) for name, data in contents.items()})
    replace_files(path, contents | {RECORD: to_json(asdict(made))})
    remember(made.files[SOURCE])
    return made


def read_sketch(path: Path) -> tuple[SketchRecord, Tokenizer, str]:
    """Read the record, the tokenizer and the code of a sketch.

    Raises:
        ArtifactError: a file is missing, changed or damaged.
    """
    finish(path, (SOURCE, TOKENIZER, RECORD))
    record = parse_json(read_bytes(path / RECORD, _ADVICE), _FORM, path / RECORD, _ADVICE)
    if set(record.files) != {SOURCE, TOKENIZER} or record.n_ctx < 1:
        raise ArtifactError(f"{path / RECORD}: not the record of {SOURCE} and {TOKENIZER}; {_ADVICE}")
    found = {name: read_bytes(path / name, _ADVICE) for name in record.files}
    for name, data in found.items():
        if sha256(data) != record.files[name]:
            raise ArtifactError(f"{path / name}: changed since it was written; {_ADVICE}")
    tokenizer = tokenizer_from_json(found[TOKENIZER], str(path / TOKENIZER))
    return record, tokenizer, parse_text(found[SOURCE], path / SOURCE, _ADVICE)
