"""What the tokenizer files of a Hugging Face folder say, in one form; kinds that are not supported are refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from annotated_types import Len
from pydantic import StrictBool, StrictInt, StrictStr, TypeAdapter, ValidationError

from englishroom.errors import ArtifactError, EnglishRoomError, UnsupportedModelError
from englishroom.untrusted import first_fault, parse_json, read_bytes

LLAMA_SPACE = "\u2581"  # stands for a space in the vocabulary of a Llama tokenizer
GPT2_CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast")
GPT2_MODELS = ("gpt2", "gpt_neo", "gptj")
SUPPORTED = "use a model with GPT-2's byte-level BPE or Llama's BPE with byte fallback, which are supported"
GIVE_ONE = "give --tokenizer a tokenizer.json, a folder with one, a llama2.c tokenizer file, or a hub name"
ADVICE = "restore the file"

T = TypeVar("T")


@dataclass(frozen=True)
class AddedToken:
    """A token that is cut out of the text before anything else, as it stands in tokenizer.json."""

    id: StrictInt
    content: StrictStr
    special: StrictBool


@dataclass(frozen=True)
class TokenizerFiles:
    """The vocabulary of a folder and the roles that its configuration files give to tokens.

    Attributes:
        path: the file with the vocabulary, for messages.
        kind: as in `Tokenizer`.
        prefix_space: as in `Tokenizer`.
        ids: the token of each piece, written as in the file.
        merges: pairs of pieces, best first.
        added: the added tokens, some of which may be in `ids` too.
        names: the names of the "bos", "eos", "unk" and "pad" tokens, where given.
        listed: the numbers that the model's configuration gives for "bos" and "eos".
        unknown: the name of the token that stands for what cannot be spelled, where there is one.
        fuse_unknown: as in `Tokenizer`.
    """

    path: Path
    kind: str
    prefix_space: bool
    ids: dict[str, int]
    merges: list[tuple[str, str]]
    added: Sequence[AddedToken]
    names: dict[str, str]
    listed: dict[str, list[int]]
    unknown: str | None = None
    fuse_unknown: bool = False


@dataclass(frozen=True)
class _TokenizerJson:
    """What decides how text is cut; the parts differ by their `type`, which is looked at first."""

    model: dict[str, Any]
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    added_tokens: tuple[AddedToken, ...] = ()


@dataclass(frozen=True)
class _Bpe:
    vocab: dict[StrictStr, StrictInt]
    merges: list[StrictStr | Annotated[list[StrictStr], Len(2, 2)]]
    dropout: float | None = None
    unk_token: StrictStr | None = None
    fuse_unk: StrictBool = False
    continuing_subword_prefix: StrictStr | None = None
    end_of_word_suffix: StrictStr | None = None
    byte_fallback: StrictBool = False
    ignore_merges: StrictBool = False


@dataclass(frozen=True)
class _NamedToken:
    content: StrictStr
    special: StrictBool = False


@dataclass(frozen=True)
class _TokenizerConfig:
    tokenizer_class: StrictStr | None = None
    add_prefix_space: StrictBool | None = None
    bos_token: StrictStr | _NamedToken | None = None
    eos_token: StrictStr | _NamedToken | None = None
    unk_token: StrictStr | _NamedToken | None = None
    pad_token: StrictStr | _NamedToken | None = None
    added_tokens_decoder: dict[int, _NamedToken] = field(default_factory=dict)

    def names(self) -> dict[str, str]:
        """Return the names of the tokens that have a role."""
        tokens = {"bos": self.bos_token, "eos": self.eos_token, "unk": self.unk_token, "pad": self.pad_token}
        return {role: token if isinstance(token, str) else token.content for role, token in tokens.items() if token}


@dataclass(frozen=True)
class _ModelConfig:
    """config.json or generation_config.json."""

    model_type: StrictStr | None = None
    bos_token_id: StrictInt | list[StrictInt] | None = None
    eos_token_id: StrictInt | list[StrictInt] | None = None


def read_tokenizer_files(path: Path) -> TokenizerFiles:
    """Read tokenizer.json, or else vocab.json with merges.txt, and the configuration beside it.

    Args:
        path: a model's folder, or a tokenizer.json under any name.

    Raises:
        ArtifactError: a file is missing or damaged.
        UnsupportedModelError: the tokenizer is of a kind that is not supported.
    """
    if not path.exists():
        raise ArtifactError(f"{path}: found no such file or folder, expected a tokenizer.json or a folder with one")
    folder, file = (path, path / "tokenizer.json") if path.is_dir() else (path.parent, path)
    config = _read_optional(folder / "tokenizer_config.json", _TokenizerConfig)
    model = _read_optional(folder / "config.json", _ModelConfig)
    generation = _read_optional(folder / "generation_config.json", _ModelConfig)
    if file.exists():
        files = _read_tokenizer_json(file, config)
    elif (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        files = _read_vocab_and_merges(folder, config, model)
    else:
        raise _no_tokenizer(folder)
    if files.kind == "byte_bpe" and config.add_prefix_space:
        raise UnsupportedModelError(f"{folder / 'tokenizer_config.json'}: found add_prefix_space = True; {SUPPORTED}")
    for source in (generation, model):
        for role, ids in {"bos": source.bos_token_id, "eos": source.eos_token_id}.items():
            files.listed[role] += ids if isinstance(ids, list) else [] if ids is None else [ids]
    return files


def _read_tokenizer_json(path: Path, config: _TokenizerConfig) -> TokenizerFiles:
    file = _read(path, _TokenizerJson)
    # Files of the first versions name no type; there BPE is told by its merges.
    model_type = file.model.get("type", "BPE" if "merges" in file.model else None)
    if model_type != "BPE":
        raise UnsupportedModelError(f"{path}: found a tokenizer of type {model_type}; {SUPPORTED}")
    try:
        model = TypeAdapter(_Bpe).validate_python(file.model)
    except ValidationError as error:
        raise ArtifactError(f"{path}: model.{first_fault(error)}") from None
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if value := getattr(model, option):
            raise UnsupportedModelError(f"{path}: found model.{option} = {value!r}; {SUPPORTED}")
    merges = [_split_merge(merge, f"{path}: merge {rank}") for rank, merge in enumerate(model.merges)]
    normalizers = _steps(file.normalizer, "normalizers", f"{path}: normalizer")
    cutters = _steps(file.pre_tokenizer, "pretokenizers", f"{path}: pre_tokenizer")
    if [cutter["type"] for cutter in cutters] == ["ByteLevel"]:
        _check_gpt2_steps(path, normalizers, cutters[0])
        kind, prefix_space = "byte_bpe", False
    elif model.byte_fallback:
        kind, prefix_space = "sentencepiece", _check_llama_steps(path, normalizers, cutters)
        if cutters and cutters[0].get("split", True):
            # Words are merged apart: the same as having no merge that puts a space after another character.
            merges = [(left, right) for left, right in merges if LLAMA_SPACE not in (left + right)[1:]]
    else:
        found = ", ".join(cutter["type"] for cutter in cutters) or "none"
        raise UnsupportedModelError(f"{path}: found BPE without byte fallback, pre_tokenizer {found}; {SUPPORTED}")
    names = {"unk": model.unk_token} if model.unk_token else {}
    return TokenizerFiles(
        path=path,
        kind=kind,
        prefix_space=prefix_space,
        ids=model.vocab,
        merges=merges,
        added=file.added_tokens,
        names=names | config.names(),
        listed={"bos": [], "eos": []},
        unknown=model.unk_token,
        fuse_unknown=model.fuse_unk,
    )


def _check_gpt2_steps(path: Path, normalizers: list[dict[str, Any]], cutter: dict[str, Any]) -> None:
    """Refuse all but GPT-2's own way from text to words."""
    if normalizers:
        raise UnsupportedModelError(f"{path}: found normalizer {normalizers[0]['type']}; {SUPPORTED}")
    for option, expected in {"add_prefix_space": False, "use_regex": True}.items():
        found = cutter.get(option, True)
        if found is not expected:
            raise UnsupportedModelError(f"{path}: found pre_tokenizer.{option} = {found!r}; {SUPPORTED}")


def _check_llama_steps(path: Path, normalizers: list[dict[str, Any]], cutters: list[dict[str, Any]]) -> bool:
    """Refuse all but Llama's own ways to write spaces; return whether one is put before the text."""
    prepend = {"type": "Prepend", "prepend": LLAMA_SPACE}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": LLAMA_SPACE}
    for step in normalizers:
        if step not in (prepend, replace):
            raise UnsupportedModelError(f"{path}: found normalizer {step}; {SUPPORTED}")
    for step in cutters:
        if step["type"] != "Metaspace" or step.get("replacement") != LLAMA_SPACE or len(cutters) > 1:
            raise UnsupportedModelError(f"{path}: found pre_tokenizer {step}; {SUPPORTED}")
    if replace not in normalizers and not cutters:
        raise UnsupportedModelError(f"{path}: found no step that writes spaces as U+2581; {SUPPORTED}")
    schemes = [
        step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never") for step in cutters
    ]
    return prepend in normalizers or schemes in (["always"], ["first"])


def _read_vocab_and_merges(folder: Path, config: _TokenizerConfig, model: _ModelConfig) -> TokenizerFiles:
    """Read the files of the first GPT-2 tokenizer, which do not say how text is cut into words."""
    for file, key, found, expected in (
        ("tokenizer_config.json", "tokenizer_class", config.tokenizer_class, GPT2_CLASSES),
        ("config.json", "model_type", None if config.tokenizer_class else model.model_type, GPT2_MODELS),
    ):
        if found is not None and found not in expected:
            raise UnsupportedModelError(
                f"{folder / file}: found {key} {found!r} beside vocab.json and merges.txt, expected one of "
                f"{', '.join(expected)}; save the model with a tokenizer.json, which says how it cuts text"
            )
    path, merges_path, added_path = folder / "vocab.json", folder / "merges.txt", folder / "added_tokens.json"
    lines = read_bytes(merges_path, ADVICE).decode(errors="replace").replace("\r\n", "\n").split("\n")
    merges = [
        _split_merge(line, f"{merges_path}: line {number}")
        for number, line in enumerate(lines, start=1)
        if line and not line.startswith("#version")
    ]
    added = {i: AddedToken(i, token.content, token.special) for i, token in config.added_tokens_decoder.items()}
    if added_path.exists():
        for name, i in _read(added_path, dict[StrictStr, StrictInt]).items():
            added.setdefault(i, AddedToken(i, name, special=False))
    return TokenizerFiles(
        path=path,
        kind="byte_bpe",
        prefix_space=False,
        ids=_read(path, dict[StrictStr, StrictInt]),
        merges=merges,
        added=tuple(added.values()),
        names=config.names(),
        listed={"bos": [], "eos": []},
    )


def _steps(step: Any, key: str, where: str) -> list[dict[str, Any]]:
    """Return the steps of a normalizer or pre_tokenizer, with sequences taken apart."""
    if step is None:
        return []
    if not isinstance(step, dict) or not isinstance(step.get("type"), str):
        raise ArtifactError(f"{where}: found {step!r:.60}, expected an object with a type")
    if step["type"] != "Sequence":
        return [step]
    steps = step.get(key)
    if not isinstance(steps, list):
        raise ArtifactError(f"{where}: found {steps!r:.60} under {key!r}, expected a list")
    return [inner for outer in steps for inner in _steps(outer, key, where)]


def _split_merge(merge: str | list[str], where: str) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if len(parts) != 2 or not all(parts):
        raise ArtifactError(f"{where}: found {merge!r:.60}, expected two pieces")
    return parts[0], parts[1]


def _no_tokenizer(folder: Path) -> EnglishRoomError:
    """Return the error for a folder with neither tokenizer.json nor vocab.json with merges.txt."""
    expected = f"expected tokenizer.json, or vocab.json with merges.txt; {GIVE_ONE}"
    for name, kind in {
        "tokenizer.model": "a SentencePiece model",
        "spiece.model": "a SentencePiece model",
        "vocab.txt": "a WordPiece vocabulary",
    }.items():
        if (folder / name).exists():
            return UnsupportedModelError(
                f"{folder}: found {name}, {kind}, {expected}; if its kind is supported, "
                "AutoTokenizer.from_pretrained(folder).save_pretrained(folder) of transformers writes tokenizer.json"
            )
    halves = [name for name in ("vocab.json", "merges.txt") if (folder / name).exists()]
    return ArtifactError(f"{folder}: found {halves[0] + ' alone' if halves else 'no tokenizer'}, {expected}")


def _read(path: Path, kind: type[T]) -> T:
    """Read a JSON file; keys that `kind` does not have are another program's business."""
    return parse_json(read_bytes(path, ADVICE), TypeAdapter(kind), path, ADVICE)


def _read_optional(path: Path, kind: type[T]) -> T:
    return _read(path, kind) if path.exists() else kind()
