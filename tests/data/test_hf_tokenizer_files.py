"""Everything that the reader of Hugging Face tokenizer folders refuses, and how it says so."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from englishroom.data.tokens import read_hf_tokenizer
from englishroom.errors import ArtifactError, UnsupportedModelError

END = "<|endoftext|>"
GPT2 = {
    "added_tokens": [{"id": 0, "content": END, "special": True}],
    "normalizer": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
    "model": {
        "type": "BPE",
        "vocab": {END: 0, "!": 1, "a": 2, "b": 3, "ab": 4, "aba": 5},
        "merges": ["a b", ["ab", "a"]],
    },
}
LLAMA = {
    "added_tokens": [{"id": i, "content": name, "special": True} for i, name in enumerate(["<unk>", "<s>", "</s>"])],
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        ],
    },
    "pre_tokenizer": None,
    "model": {
        "type": "BPE",
        "byte_fallback": True,
        "unk_token": "<unk>",
        "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "<0x0A>": 3, "\u2581": 4, "a": 5, "\u2581a": 6},
        "merges": [["\u2581", "a"]],
    },
}
GPT2_PARTS = {"vocab_json": GPT2["model"]["vocab"], "merges_txt": "#version: 0.2\na b\nab a\n"}
JSON = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.just([]) | st.just({}) | st.just([[]])


def save(folder: Path, **files: Any) -> Path:
    """Write `files` (the last underscore of a name stands for the dot) into `folder`."""
    for name, content in files.items():
        stem, _, ending = name.rpartition("_")
        (folder / f"{stem}.{ending}").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def changed(file: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy of `file` with the value at a dotted path replaced or added."""
    place = file = json.loads(json.dumps(file))
    *parents, last = path.split(".")
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    place[int(last) if isinstance(place, list) else last] = value
    return file


USE = "use a model with GPT-2's byte-level BPE or Llama's BPE with byte fallback, which are supported"
NO_FALLBACK = "found BPE without byte fallback, pre_tokenizer"


@pytest.mark.parametrize(
    ("file", "path", "value", "message"),
    [
        (GPT2, "model.type", "Unigram", "found a tokenizer of type Unigram"),
        (GPT2, "model", {}, "found a tokenizer of type None"),
        (GPT2, "model.dropout", 0.1, "found model.dropout = 0.1"),
        (GPT2, "model.ignore_merges", True, "found model.ignore_merges = True"),
        (GPT2, "model.end_of_word_suffix", "</w>", "found model.end_of_word_suffix = '</w>'"),
        (GPT2, "model.continuing_subword_prefix", "##", "found model.continuing_subword_prefix = '##'"),
        (GPT2, "normalizer", {"type": "NFC"}, "found normalizer NFC"),
        (GPT2, "pre_tokenizer.add_prefix_space", True, "found pre_tokenizer.add_prefix_space = True"),
        (GPT2, "pre_tokenizer.use_regex", False, "found pre_tokenizer.use_regex = False"),
        (GPT2, "pre_tokenizer", None, f"{NO_FALLBACK} none"),
        (GPT2, "pre_tokenizer", {"type": "Split"}, f"{NO_FALLBACK} Split"),
        (GPT2, "model.vocab.\u4f60\u4f60", 6, "piece '\u4f60\u4f60' is not in GPT-2's byte alphabet"),
        (LLAMA, "normalizer", {"type": "NFKC"}, "found normalizer {'type': 'NFKC'}"),
        (LLAMA, "pre_tokenizer", {"type": "Split"}, "found pre_tokenizer {'type': 'Split'}"),
        (LLAMA, "normalizer", None, "found no step that writes spaces as U+2581"),
        (
            GPT2,
            "added_tokens.0",
            {"id": 6, "content": "zz", "special": False},
            "found the added token 'zz', which is not special",
        ),
        (
            GPT2,
            "added_tokens.0",
            {"id": 1, "content": "!", "special": True},
            "found the added token '!', which plain text produces too",
        ),
        (
            GPT2,
            "added_tokens.0",
            {"id": 4, "content": "ab", "special": True},
            "found the added token 'ab', which plain text produces too",
        ),
        (
            LLAMA,
            "added_tokens.0",
            {"id": 3, "content": "<0x0A>", "special": True},
            "found the added token '<0x0A>', which plain text produces too",
        ),
        (LLAMA, "model.vocab. a", 7, "tokens 6 and 7 both spell b' a'"),
    ],
)
def test_other_kinds_of_tokenizer_are_refused_by_name(
    tmp_path: Path, file: dict[str, Any], path: str, value: Any, message: str
) -> None:
    save(tmp_path, tokenizer_json=changed(file, path, value))
    with pytest.raises(UnsupportedModelError) as caught:
        read_hf_tokenizer(tmp_path, 8)
    assert str(caught.value) == f"{tmp_path / 'tokenizer.json'}: {message}; {USE}"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("normalizer", {"kind": "NFC"}, "normalizer: found {'kind': 'NFC'}, expected an object with a type"),
        ("normalizer", {"type": "Sequence"}, "normalizer: found None under 'normalizers', expected a list"),
        ("normalizer", [], "normalizer: Input should be an object, found []; restore the file"),
        ("model", None, "model: Input should be an object, found None; restore the file"),
        ("model.vocab", [], "model.vocab: Input should be a valid dictionary, found []"),
        ("model.vocab.a", "7", "model.vocab.a: Input should be a valid integer, found '7'"),
        ("model.merges", {}, "model.merges: Input should be a valid list, found {}"),
        ("model.merges", ["a"], "merge 0: found 'a', expected two pieces"),
        ("model.merges", ["a b c"], "merge 0: found 'a b c', expected two pieces"),
        ("model.merges", [["", "b"]], "merge 0: found ['', 'b'], expected two pieces"),
        ("model.merges", ["a a"], "found merge 0 of 'a' and 'a', but 'aa' is not in the vocabulary"),
        ("added_tokens", [{"id": 0}], "added_tokens.0.content: Field required; restore the file"),
        ("added_tokens.0.id", 5, f"found the added token '{END}' as 5, but the vocabulary has it as 0"),
        ("added_tokens.0.content", "x y", f"found 'x y' with number 0, that of '{END}' too; expected one of its own"),
        ("model.vocab.zz", -1, "found 'zz' with number -1, below 0; expected one of its own"),
        (
            "model.vocab.zz",
            500,
            (
                "wrong tokenizer for these weights: found token 500, the weights have 500 tokens; "
                "use the tokenizer of the same model"
            ),
        ),
    ],
)
def test_a_damaged_tokenizer_json_is_refused(tmp_path: Path, path: str, value: Any, message: str) -> None:
    save(tmp_path, tokenizer_json=changed(GPT2, path, value))
    with pytest.raises(ArtifactError) as caught:
        read_hf_tokenizer(tmp_path, 500)
    assert str(caught.value) == f"{tmp_path / 'tokenizer.json'}: {message}"


def test_a_vocabulary_without_start_or_end_is_refused(tmp_path: Path) -> None:
    file = changed(GPT2, "added_tokens", [])
    file["model"]["vocab"]["<nothing>"] = file["model"]["vocab"].pop(END)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: found no start or end token, expected bos_token or .*"):
        read_hf_tokenizer(save(tmp_path, tokenizer_json=file), 6)
    folder = save(tmp_path, config_json={"eos_token_id": 0})
    assert read_hf_tokenizer(folder, 6).stop_ids == (0,)


def test_a_merge_of_byte_tokens_is_refused(tmp_path: Path) -> None:
    file = changed(LLAMA, "model.vocab.<0x0A>a", 7)
    file["model"]["merges"] = ["<0x0A> a"]
    with pytest.raises(
        ArtifactError, match=r"merges: merge 0 of b'\\n' and b'a' does not join ordinary pieces to one$"
    ):
        read_hf_tokenizer(save(tmp_path, tokenizer_json=file), 8)


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        (
            {},
            ArtifactError,
            "{folder}: found no tokenizer, expected tokenizer.json, or vocab.json .*",
        ),
        ({"vocab_json": {}}, ArtifactError, "{folder}: found vocab.json alone, expected tokenizer.json, or .*"),
        ({"merges_txt": ""}, ArtifactError, "{folder}: found merges.txt alone, expected tokenizer.json, or .*"),
        (
            {"tokenizer_model": ""},
            UnsupportedModelError,
            "{folder}: found tokenizer.model, a SentencePiece model, expected .*writes tokenizer.json",
        ),
        (
            {"spiece_model": ""},
            UnsupportedModelError,
            "{folder}: found spiece.model, a SentencePiece model, expected .*",
        ),
        ({"vocab_txt": ""}, UnsupportedModelError, "{folder}: found vocab.txt, a WordPiece vocabulary, expected .*"),
        ({"tokenizer_json": "{"}, ArtifactError, "{folder}/tokenizer.json: the whole text: Invalid JSON: .*"),
        ({"tokenizer_json": "[" * 9999}, ArtifactError, "{folder}/tokenizer.json: the whole text: Invalid JSON: .*"),
        ({"tokenizer_json": {}}, ArtifactError, "{folder}/tokenizer.json: model: Field required; restore the file"),
        (
            {"tokenizer_json": GPT2, "config_json": {"eos_token_id": "2"}},
            ArtifactError,
            "{folder}/config.json: eos_token_id.*: Input should be a valid integer, found '2'; restore the file",
        ),
        (
            {"tokenizer_json": GPT2, "tokenizer_config_json": {"add_prefix_space": True}},
            UnsupportedModelError,
            "{folder}/tokenizer_config.json: found add_prefix_space = True; use .*",
        ),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, files: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        read_hf_tokenizer(save(tmp_path, **files), 500)
    assert re.fullmatch(message.replace("{folder}", re.escape(str(tmp_path))), str(caught.value))


def test_folders_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"missing: found no such file or folder, expected a tokenizer\.json or"):
        read_hf_tokenizer(tmp_path / "missing", 500)
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: is a folder, expected a file; restore the file$"):
        read_hf_tokenizer(tmp_path, 500)


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        (
            {"tokenizer_config_json": {"tokenizer_class": "Qwen2Tokenizer"}},
            UnsupportedModelError,
            (
                r"tokenizer_config\.json: found tokenizer_class 'Qwen2Tokenizer' beside vocab\.json and merges\.txt, "
                r"expected one of "
                r"GPT2Tokenizer, GPT2TokenizerFast; save the model with a tokenizer\.json, which says how it cuts text"
            ),
        ),
        (
            {"config_json": {"model_type": "clip"}},
            UnsupportedModelError,
            r"config\.json: found model_type 'clip' beside .*",
        ),
        (
            {"merges_txt": "#version: 0.2\na b\nab\n"},
            ArtifactError,
            r"merges\.txt: line 3: found 'ab', expected two pieces",
        ),
        (
            {"vocab_json": []},
            ArtifactError,
            r"vocab\.json: the whole text: Input should be an object, found \[\]; restore the file",
        ),
        (
            {"added_tokens_json": {"<x>": 450}},
            UnsupportedModelError,
            r"vocab\.json: found the added token '<x>', which is not special; .*",
        ),
    ],
)
def test_other_vocab_json_folders_are_refused(
    tmp_path: Path, files: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"/{message}$"):
        read_hf_tokenizer(save(tmp_path, **GPT2_PARTS | files), 500)


@given(data=st.data(), value=JSON)
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_to_tokenizer_json_escapes_as_another_error(tmp_path: Path, data: st.DataObject, value: Any) -> None:
    file = changed(data.draw(st.sampled_from([GPT2, LLAMA])), "version", "1.0")
    place: Any = file
    while True:
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    if isinstance(place, dict) and data.draw(st.booleans()):
        del place[key]
    else:
        place[key] = value
    text = json.dumps(file)
    if data.draw(st.booleans()):
        text = text[: data.draw(st.integers(0, len(text)))]
    try:
        tokenizer = read_hf_tokenizer(save(tmp_path, tokenizer_json=text), 500)
    except (ArtifactError, UnsupportedModelError) as error:
        assert str(error).startswith(str(tmp_path))
        assert "\n" not in str(error)
    else:
        assert len(tokenizer.pieces) == 500
