"""The tokenizer against slow readings of the same rules, and its JSON form."""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

import englishroom.ir.tokenizer
from englishroom.data.tokens import read_llama2c_tokenizer
from englishroom.errors import ArtifactError
from englishroom.ir.tokenizer import Tokenizer, gpt2_words
from englishroom.ir.tokenizer_json import tokenizer_from_json, tokenizer_to_json

ASSIGNED = st.characters(exclude_categories=("Cs", "Cn"))  # Unicode's unassigned characters differ between versions
WORDS = (
    "Once|upon| a|time|'s|'ll|'LL|'|\u2019t|don't|\"|, |.|?!|3|12|\u00bd|\u0663|_|\u00e9|e\u0301|\u4f60\u597d|\u2581"
)
SPACES = (
    " |  |   |\n|\n\n|\r\n|\t|\x0b|\x1c|\x1f|\x85|\xa0|\u2028|\u3000|\u200b|\x00|\U0001f388|\U0001f469\u200d\U0001f680"
)
SNIPPETS = st.sampled_from([*WORDS.split("|"), *SPACES.split("|")])
TEXT = st.text(ASSIGNED) | st.lists(SNIPPETS | st.text(ASSIGNED, max_size=3)).map("".join)


def sentencepiece(pieces: dict[str, float], merges: tuple[tuple[str, str], ...] = ()) -> Tokenizer:
    """Return a tokenizer in llama2.c's order: unknown, start, end, 256 bytes, then `pieces` with their scores."""
    names = ["<unk>", "<s>", "</s>"]
    body = list(pieces)
    number = {piece: 259 + i for i, piece in enumerate(body)}
    return Tokenizer(
        kind="sentencepiece",
        pieces=(*(name.encode() for name in names), *(bytes([b]) for b in range(256)), *(p.encode() for p in body)),
        merges=tuple((number[left], number[right]) for left, right in merges),
        scores=() if merges else (0.0,) * 259 + tuple(pieces.values()),
        byte_ids=tuple(range(3, 259)),
        specials=(0, 1, 2),
        start_id=1,
        stop_ids=(1, 2),
        prefix_space=True,
    )


def byte_bpe(merges: tuple[tuple[bytes, bytes], ...]) -> Tokenizer:
    """Return a byte-level tokenizer: 256 bytes, one piece per merge, then <|endoftext|>."""
    pieces = [bytes([b]) for b in range(256)]
    for left, right in merges:
        if left + right not in pieces:
            pieces.append(left + right)
    end = len(pieces)
    return Tokenizer(
        kind="byte_bpe",
        pieces=(*pieces, b"<|endoftext|>"),
        merges=tuple((pieces.index(left), pieces.index(right)) for left, right in merges),
        scores=(),
        byte_ids=tuple(range(256)),
        specials=(end,),
        start_id=end,
        stop_ids=(end,),
        prefix_space=False,
    )


def merge_slowly(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return llama2.c's encoding by its own definition: look at every pair again after every merge."""
    in_bytes = set(tokenizer.byte_ids)
    number = {piece: i for i, piece in enumerate(tokenizer.pieces) if i not in in_bytes.union(tokenizer.specials)}
    tokens: list[int] = []
    for character in " " + text if text else "":
        data = character.encode()
        tokens += [number[data]] if data in number else [tokenizer.byte_ids[b] for b in data]
    while True:
        best, where, merged = float("-inf"), None, None
        for i, (left, right) in enumerate(pairwise(tokens)):
            if left in in_bytes or right in in_bytes:
                continue
            joined = number.get(tokenizer.pieces[left] + tokenizer.pieces[right])
            if joined is not None and tokenizer.scores[joined] > best:
                best, where, merged = tokenizer.scores[joined], i, joined
        if where is None or merged is None:
            return tokens
        tokens[where : where + 2] = [merged]


STORY_PIECES = sentencepiece(
    {piece: float(-i) for i, piece in enumerate([" t", "he", " the", "th", "in", "ing", "  ", "el", " ", *"theling.A"])}
)
BALLOON = "\U0001f388"


@given(TEXT)
@settings(deadline=None)
def test_words_are_cut_as_gpt2_cuts_them(text: str) -> None:
    spans = [span for _, span in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)]
    assert gpt2_words(text) == [text[start:end] for start, end in spans]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I'll say  it's 3pm.", ["I", "'ll", " say", " ", " it", "'s", " 3", "pm", "."]),
        ("WE'LL", ["WE", "'", "LL"]),
        ("a\x1cb\x0bc", ["a", "\x1c", "b", "\x0b", "c"]),
        ("x \n y", ["x", " \n", " y"]),
        ("end  ", ["end", "  "]),
        ("\u2160\u00bd7\u4e00", ["\u2160\u00bd7", "\u4e00"]),
        ("a\u3000\u3000b", ["a", "\u3000", "\u3000", "b"]),
    ],
)
def test_words_of_hand_picked_texts(text: str, words: list[str]) -> None:
    assert gpt2_words(text) == words


@given(
    st.dictionaries(st.text("ab \u00e9", min_size=2, max_size=4), st.integers(-3, 0).map(float)),
    st.sets(st.sampled_from("ab \u00e9c")),
    st.text("ab \u00e9c\n" + BALLOON, max_size=30),
)
@settings(deadline=None, max_examples=300)
def test_merging_follows_the_scores(pieces: dict[str, float], alphabet: set[str], text: str) -> None:
    tokenizer = sentencepiece(pieces | dict.fromkeys(sorted(alphabet), -9.0))
    assert tokenizer.encode(text) == merge_slowly(tokenizer, text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_pieces_that_go_on_after_a_space_are_found() -> None:
    tokenizer = sentencepiece({" ": -1.0, "a": -1.0, "b": -1.0, "a ": -0.5, "a b": -0.2})
    assert [tokenizer.pieces[i] for i in tokenizer.encode("a b")] == [b" ", b"a b"]


def test_the_leftmost_of_equal_pairs_merges_first() -> None:
    tokenizer = sentencepiece({" ": 0.0, "a": 0.0, "aa": -1.0})
    assert [tokenizer.pieces[i] for i in tokenizer.encode("aaaaa")] == [b" ", b"aa", b"aa", b"a"]


def test_merges_outrank_one_another_by_their_order_alone() -> None:
    pieces = dict.fromkeys([" ", "a", "b", "c", "ab", "bc"], 0.0)
    first_bc = sentencepiece(pieces, merges=(("b", "c"), ("a", "b")))
    first_ab = sentencepiece(pieces, merges=(("a", "b"), ("b", "c")))
    assert [first_bc.pieces[i] for i in first_bc.encode("abc")] == [b" ", b"a", b"bc"]
    assert [first_ab.pieces[i] for i in first_ab.encode("abc")] == [b" ", b"ab", b"c"]


def test_a_character_that_is_byte_and_piece_is_spelled_with_the_piece() -> None:
    tokens = STORY_PIECES.encode("A\n")
    assert [STORY_PIECES.pieces[i] for i in tokens] == [b" ", b"A", b"\n"]
    assert tokens[1] == len(STORY_PIECES.pieces) - 1
    assert tokens[2] == STORY_PIECES.byte_ids[0x0A]


def test_the_last_of_equal_pieces_is_used() -> None:
    twice = dataclasses.replace(STORY_PIECES, pieces=(*STORY_PIECES.pieces, b"A"), scores=(*STORY_PIECES.scores, -99.0))
    assert twice.encode("A")[-1] == len(twice.pieces) - 1


def test_bytes_of_a_character_outside_the_vocabulary_never_merge() -> None:
    tokenizer = sentencepiece({" ": 0.0, "\n\n": 0.0})
    assert [tokenizer.pieces[i] for i in tokenizer.encode("\n\n")] == [b" ", b"\n", b"\n"]


def test_no_text_has_no_tokens() -> None:
    assert STORY_PIECES.encode("") == []
    assert STORY_PIECES.decode([]) == ""


def test_special_names_count_only_when_asked() -> None:
    text = "the</s>the<s>the"
    assert not set(STORY_PIECES.encode(text)) & set(STORY_PIECES.specials)
    tokens = STORY_PIECES.encode(text, specials=True)
    assert [STORY_PIECES.pieces[i] for i in tokens] == [b" the", b"</s>", b"t", b"he", b"<s>", b" the"]
    assert STORY_PIECES.decode(tokens) == "thethethe"


def test_the_longest_special_name_wins() -> None:
    base = byte_bpe(())
    count = len(base.pieces)
    tokenizer = dataclasses.replace(
        base, pieces=(*base.pieces, b"<|end", b""), specials=(*base.specials, count, count + 1)
    )
    assert tokenizer.encode("<|end<|endoftext|>", specials=True) == [count, base.start_id]
    assert byte_bpe(()).encode("a<|endoftext|>", specials=True) == [97, 256]
    without = dataclasses.replace(base, specials=())
    assert without.encode("ab", specials=True) == [97, 98]


def test_the_prefix_space_goes_only_after_the_start_token() -> None:
    the = STORY_PIECES.pieces.index(b" the")
    assert STORY_PIECES.piece_bytes(the, previous=1) == b"the"
    assert STORY_PIECES.piece_bytes(the, previous=the) == b" the"
    assert STORY_PIECES.piece_bytes(1, previous=the) == b""
    assert STORY_PIECES.decode([the, the, 1, the]) == "the thethe"
    assert list(STORY_PIECES.stream([the], previous=the)) == [" the"]
    assert byte_bpe(()).piece_bytes(32, previous=256) == b" "


@given(st.lists(st.integers(0, len(STORY_PIECES.pieces) - 1)))
@settings(deadline=None)
def test_streaming_loses_and_adds_nothing(tokens: list[int]) -> None:
    pairs = pairwise([STORY_PIECES.start_id, *tokens])
    data = b"".join(STORY_PIECES.piece_bytes(token, previous) for previous, token in pairs)
    assert "".join(STORY_PIECES.stream(tokens)) == STORY_PIECES.decode(tokens) == data.decode(errors="replace")


def test_streaming_waits_for_whole_characters_and_for_nothing_else() -> None:
    read: list[int] = []

    def arriving() -> Iterator[int]:
        for token in [*STORY_PIECES.encode("A"), *(STORY_PIECES.byte_ids[b] for b in BALLOON.encode())]:
            read.append(token)
            yield token

    stream = STORY_PIECES.stream(arriving())
    assert (next(stream), len(read)) == ("A", 2)
    assert (next(stream), len(read)) == (BALLOON, 6)
    assert list(stream) == []


def test_a_cut_character_is_shown_as_one() -> None:
    assert STORY_PIECES.decode([STORY_PIECES.byte_ids[0xF0], STORY_PIECES.byte_ids[0x9F]]) == "\ufffd"


@pytest.mark.parametrize("tokenizer", [STORY_PIECES, byte_bpe(())], ids=["sentencepiece", "byte_bpe"])
def test_a_missing_byte_is_named(tokenizer: Tokenizer) -> None:
    poor = dataclasses.replace(
        tokenizer, byte_ids=tuple(-1 if b == 0x9F else i for b, i in enumerate(tokenizer.byte_ids))
    )
    with pytest.raises(ValueError, match=f"^the vocabulary has no token for byte 0x9f of character '{BALLOON}'$"):
        poor.encode("A " + BALLOON)


@pytest.mark.parametrize(
    ("tokenizer", "letter"),
    [(STORY_PIECES, "the"), (byte_bpe(((b"t", b"h"), (b"th", b"e"), (b"the", b"the"))), "the")],
    ids=["sentencepiece", "byte_bpe"],
)
def test_long_words_take_no_quadratic_time(tokenizer: Tokenizer, letter: str) -> None:
    text = letter * 30_000
    started = time.perf_counter()
    tokens = tokenizer.encode(text)
    assert time.perf_counter() - started < 10  # looking at every pair again would take hours
    assert tokenizer.decode(tokens) == text


def test_the_cache_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(englishroom.ir.tokenizer, "CACHED_WORDS", 4)
    tokenizer = dataclasses.replace(STORY_PIECES)
    for text in ("the thing", "a b c d e f g", "the thing"):
        assert tokenizer.encode(text) == merge_slowly(tokenizer, text)
        assert len(tokenizer._cache) <= 4


def test_the_module_runs_alone_with_a_tokenizer_as_a_literal(tmp_path: Path) -> None:
    source = Path(englishroom.ir.tokenizer.__file__).read_text()
    program = tmp_path / "program.py"
    text = "the A thing \u00e9" + BALLOON
    program.write_text(
        f"{source}\nt = {STORY_PIECES!r}\nprint(t.encode({text!r}), ascii(t.decode(t.encode({text!r}))))\n"
    )
    run = subprocess.run([sys.executable, "-I", "-S", program], capture_output=True, text=True, check=True)
    assert run.stdout == f"{STORY_PIECES.encode(text)} {text!a}\n"


@given(st.lists(st.binary(min_size=1), min_size=1), st.floats(allow_nan=False, allow_infinity=False))
def test_json_gives_back_the_same_tokenizer(pieces: list[bytes], score: float) -> None:
    tokenizer = Tokenizer(
        kind="sentencepiece",
        pieces=tuple(pieces),
        merges=(),
        scores=(score,) * len(pieces),
        byte_ids=(-1,) * 256,
        specials=(),
        start_id=0,
        stop_ids=(0,),
        prefix_space=False,
    )
    text = tokenizer_to_json(tokenizer)
    assert text.isascii()
    assert tokenizer_from_json(text) == tokenizer


@pytest.mark.parametrize(
    "tokenizer",
    [STORY_PIECES, byte_bpe(((b"a", b"b"),)), sentencepiece({"a": 0.0, "aa": 0.0}, (("a", "a"),))],
    ids=["scores", "byte_bpe", "merges"],
)
def test_json_gives_back_every_kind(tokenizer: Tokenizer) -> None:
    assert tokenizer_from_json(tokenizer_to_json(tokenizer)) == tokenizer


SCORED, MERGED = STORY_PIECES, byte_bpe(((b"a", b"b"),))


@pytest.mark.parametrize(
    ("tokenizer", "changes", "message"),
    [
        (SCORED, {"kind": "unigram"}, "kind: Input should be 'byte_bpe' or 'sentencepiece', found 'unigram'"),
        (SCORED, {"start_id": None}, "start_id: Input should be a valid integer, found None"),
        (SCORED, {"start_id": True}, "start_id: Input should be a valid integer, found True"),
        (SCORED, {"stop_ids": [1.5]}, r"stop_ids\.0: Input should be a valid integer, .*found 1.5"),
        (SCORED, {"prefix_space": 1}, "prefix_space: Input should be a valid boolean, found 1"),
        (SCORED, {"colour": 1}, "colour: Unexpected keyword argument, found 1"),
        (SCORED, {"pieces": ["\u0100"]}, r"pieces: found 'Ā', expected characters up to U\+00FF, one for each byte"),
        (SCORED, {"merges": [[1]]}, r"merges\.0\.1: Field required"),
        (SCORED, {"start_id": 999}, "start_id: found token 999, expected one of the 277 pieces"),
        (SCORED, {"stop_ids": [-1]}, "stop_ids: found token -1, expected one of the 277 pieces"),
        (SCORED, {"specials": [277]}, "specials: found token 277, expected one of the 277 pieces"),
        (MERGED, {"merges": [[97, 300]]}, "merges: found token 300, expected one of the 258 pieces"),
        (SCORED, {"byte_ids": [-2]}, "byte_ids: found token -2, expected one of the 277 pieces"),
        (SCORED, {"byte_ids": [3]}, "byte_ids: found 1 entries, expected 256"),
        (MERGED, {"byte_ids": [1, *range(1, 256)]}, r"byte_ids: entry 0 is token 1, found b'\\x01', expected b'\\x00'"),
        (MERGED, {"specials": [97]}, "byte_ids: entry 97 is token 97, which is special, expected an ordinary one"),
        (MERGED, {"scores": [0.0]}, "scores: found scores in a byte-level tokenizer, expected merges alone"),
        (SCORED, {"merges": [[259, 260]]}, "scores: found scores and merges, expected one of them"),
        (SCORED, {"scores": [0.0]}, "scores: found 1, expected one for each of the 277 pieces"),
        (MERGED, {"merges": [[97, 97]]}, "merges: merge 0 of b'a' and b'a' does not join ordinary pieces to one"),
        (SCORED, {"scores": [], "merges": [[3, 4]]}, r"merges: merge 0 of b'\\x00' and b'\\x01' does not join .*"),
    ],
)
def test_json_that_does_not_fit_is_refused(tokenizer: Tokenizer, changes: dict[str, Any], message: str) -> None:
    text = json.dumps(json.loads(tokenizer_to_json(tokenizer)) | changes)
    with pytest.raises(ArtifactError, match=rf"^here\.json: {message}(; restore the file)?$"):
        tokenizer_from_json(text, "here.json")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text[:-9], "tokenizer: the whole text: Invalid JSON: EOF while parsing .*"),
        (lambda text: "[]", r"tokenizer: the whole text: .*found \[\]"),
        (lambda text: text.replace('"kind": "sentencepiece", ', ""), "tokenizer: kind: Field required"),
        (lambda text: text.replace("-1.0", "NaN", 1), r"tokenizer: scores\.260: Input should be a finite number.*"),
        (
            lambda text: text.replace('"<unk>"', '"\\u00ff"'),
            r"tokenizer: specials: the name of token 0 is b'\\xff', expected UTF-8",
        ),
    ],
)
def test_json_that_is_damaged_is_refused(edit: Callable[[str], str], message: str) -> None:
    with pytest.raises(ArtifactError, match=f"^{message}(; restore the file)?$") as caught:
        tokenizer_from_json(edit(tokenizer_to_json(SCORED)))
    assert "\n" not in str(caught.value)


@pytest.mark.shared
@pytest.mark.parametrize(("file", "vocab_size"), [("stories260K/tok512.bin", 512), ("stories15M/tokenizer.bin", 32000)])
def test_real_stories_merge_as_slow_merging_does(shared_dir: Path, file: str, vocab_size: int) -> None:
    tokenizer = read_llama2c_tokenizer(shared_dir / "models" / file, vocab_size)
    stories = (shared_dir / "data" / "tinystories_valid.txt").read_text()[:200_000].split("<|endoftext|>")
    for story in stories[:200:40]:
        assert tokenizer.encode(story) == merge_slowly(tokenizer, story)
    assert tokenizer.decode(tokenizer.encode(stories[7])) == stories[7]
