"""Turn text into tokens and tokens into text, with the standard library alone.

1. Cut the text into words that no merge can cross.
2. Spell each word with the smallest tokens: one per byte ("byte_bpe"), or one per character and one per byte where the
   vocabulary lacks the character ("sentencepiece").
3. Merge neighbouring tokens, the best pair first, the leftmost of equals, until no two neighbours form a piece.
"""

import codecs
import heapq
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

GPT2_WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII)
SPACED_WORD = re.compile(r" *[^ ]+| +")
BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
CACHED_WORDS = 2**16


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary and the rules that spell text with it.

    Attributes:
        kind: "byte_bpe" (GPT-2) or "sentencepiece" (llama2.c, Llama).
        pieces: the bytes that each token stands for; of a special token, its name.
        merges: pairs of tokens that may merge, best first.
        scores: where there are no merges, the score of each piece; neighbours that form a piece may merge, the
            highest score first.
        byte_ids: the token of each of the 256 bytes, -1 where the vocabulary has none.
        specials: tokens that ordinary text never produces.
        start_id: the token that a story starts from.
        stop_ids: the tokens at which talking stops.
        prefix_space: whether a space is put before the text, and taken off again after the start token.
        unknown_id: the token of what the vocabulary cannot spell, -1 where there is none.
        fuse_unknown: whether it stands once for a run of such characters.
    """

    kind: str
    pieces: tuple[bytes, ...]
    merges: tuple[tuple[int, int], ...]
    scores: tuple[float, ...]
    byte_ids: tuple[int, ...]
    specials: tuple[int, ...]
    start_id: int
    stop_ids: tuple[int, ...]
    prefix_space: bool
    unknown_id: int = -1
    fuse_unknown: bool = False

    def encode(self, text: str, specials: bool = False) -> list[int]:
        """Return the tokens of `text`, without the start token.

        Args:
            text: any text that UTF-8 can hold.
            specials: whether the names of special tokens in the text stand for those tokens.

        Raises:
            ValueError: the text needs a byte that the vocabulary lacks, and there is no token of the unknown.
        """
        parts = self._special_name.split(text) if specials else [text]
        tokens: list[int] = []
        previous = self.start_id
        for i, part in enumerate(parts):
            if i % 2 == 1:  # the odd parts are the names that were split at
                previous = self._special_ids[part]
                tokens.append(previous)
            elif part:
                prefix = " " if self.prefix_space and previous == self.start_id else ""
                for word in self._words(prefix + part):
                    tokens += self._encode_word(word)
        return tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of `tokens`, with U+FFFD in place of bytes that are not UTF-8."""
        return "".join(self.stream(tokens))

    def stream(self, tokens: Iterable[int], previous: int | None = None) -> Iterator[str]:
        """Yield the text of `tokens` while they arrive, each character as soon as its last byte is there.

        Args:
            tokens: read one at a time, so they may still be in the making.
            previous: the token before the first one; by default the start token.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        previous = self.start_id if previous is None else previous
        for token in tokens:
            if text := decoder.decode(self.piece_bytes(token, previous)):
                yield text
            previous = token
        if text := decoder.decode(b"", final=True):
            yield text

    def piece_bytes(self, token: int, previous: int) -> bytes:
        """Return the bytes that `token` adds to the text when it follows `previous`; none for a special token."""
        if token in self._special_set:
            return b""
        piece = self.pieces[token]
        return piece.removeprefix(b" ") if self.prefix_space and previous == self.start_id else piece

    def _words(self, text: str) -> list[str]:
        """Cut `text` where tokens never join."""
        if self.kind == "byte_bpe":
            return gpt2_words(text)
        return [text] if self._joins_words else SPACED_WORD.findall(text)

    def _encode_word(self, word: str) -> tuple[int, ...]:
        tokens = self._cache.get(word)
        if tokens is None:
            tokens = self._merge(self._spell(word))
            if len(self._cache) >= CACHED_WORDS:
                self._cache.clear()
            self._cache[word] = tokens
        return tokens

    def _spell(self, word: str) -> list[int]:
        """Return the smallest tokens that `word` can be written with."""
        tokens: list[int] = []
        waiting = False  # an unknown token; single bytes of other characters go before it, as in the tokenizers library
        for character in word:
            data = character.encode()
            piece = self._ids.get(data) if self.kind == "sentencepiece" else None
            ids = [self.byte_ids[byte] for byte in data] if piece is None else [piece]
            if -1 in ids and self.unknown_id == -1:
                byte = data[ids.index(-1)]
                raise ValueError(f"the vocabulary has no token for byte 0x{byte:02x} of character {character!r}")
            if -1 in ids and self.kind == "sentencepiece":
                ids = [-1]  # one for the character
            for token in ids:
                ends = not self.fuse_unknown if token == -1 else piece is not None or self.kind == "byte_bpe"
                if waiting and ends:
                    tokens.append(self.unknown_id)
                waiting = token == -1 or (waiting and not ends)
                tokens += [token] if token != -1 else []
        return [*tokens, self.unknown_id] if waiting else tokens

    def _merge(self, tokens: list[int]) -> tuple[int, ...]:
        """Merge neighbours until no pair is left that may merge.

        The tokens are a linked list and the pairs wait in a heap, which takes n log n steps. A merge leaves pairs of
        its old tokens in the heap; they are passed over when their turn comes.
        """
        tokens = list(tokens)
        end = len(tokens)
        after = list(range(1, end + 1))
        before = list(range(-1, end - 1))
        waiting: list[tuple[float, int, int, int, int]] = []

        def consider(i: int, j: int) -> None:
            joined = self._join(tokens[i], tokens[j])
            if joined is not None:
                rank, token = joined
                heapq.heappush(waiting, (rank, i, tokens[i], tokens[j], token))

        for i in range(end - 1):
            consider(i, i + 1)
        while waiting:
            _, i, left, right, token = heapq.heappop(waiting)
            j = after[i]
            if j == end or tokens[i] != left or tokens[j] != right:
                continue
            tokens[i], tokens[j] = token, -1
            after[i] = after[j]
            if after[i] < end:
                before[after[i]] = i
                consider(i, after[i])
            if before[i] >= 0:
                consider(before[i], i)
        return tuple(token for token in tokens if token >= 0)

    def _join(self, left: int, right: int) -> tuple[float, int] | None:
        """Return the rank (lowest merges first) and the token that two neighbours form, or None."""
        if not self.scores:
            return self._ranks.get((left, right))
        token = self._ids.get(self.pieces[left] + self.pieces[right])
        if token is None or left in self._fallback or right in self._fallback:
            return None
        return -self.scores[token], token

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        """The token of each piece that spelling and merging may produce; the last one where a piece occurs twice."""
        barred = self._special_set | self._fallback
        return {piece: token for token, piece in enumerate(self.pieces) if token not in barred}

    @cached_property
    def _ranks(self) -> dict[tuple[int, int], tuple[float, int]]:
        pieces, ids = self.pieces, self._ids
        return {(i, j): (rank, ids[pieces[i] + pieces[j]]) for rank, (i, j) in enumerate(self.merges)}

    @cached_property
    def _fallback(self) -> frozenset[int]:
        """The tokens that stand for characters outside the vocabulary, or single bytes of them, and never merge."""
        return frozenset((self.unknown_id, *(self.byte_ids if self.kind == "sentencepiece" else ())))

    @cached_property
    def _joins_words(self) -> bool:
        """Whether some piece goes on after a space, so that merges may cross from one word to the next."""
        return any(b" " in piece.lstrip(b" ") for piece in self._ids)

    @cached_property
    def _special_set(self) -> frozenset[int]:
        return frozenset(self.specials)

    @cached_property
    def _special_ids(self) -> dict[str, int]:
        return {self.pieces[token].decode(): token for token in self.specials if self.pieces[token]}

    @cached_property
    def _special_name(self) -> re.Pattern[str]:
        names = sorted(self._special_ids, key=len, reverse=True)  # the longest of names that begin alike
        return re.compile("(" + ("|".join(map(re.escape, names)) or "(?!)") + ")")

    @cached_property
    def _cache(self) -> dict[str, tuple[int, ...]]:
        return {}


def gpt2_words(text: str) -> list[str]:
    r"""Cut `text` as GPT-2 does: contractions, then letters, digits or other signs after at most one space, then space.

    The pattern is `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`. It treats all
    characters of one class alike, so the cuts are found in a copy where an ASCII character of its class stands for
    each character beyond ASCII.
    """
    copy = text if text.isascii() else BEYOND_ASCII.sub(_ascii_of_same_class, text)
    return [text[match.start() : match.end()] for match in GPT2_WORD.finditer(copy)]


def _ascii_of_same_class(match: re.Match[str]) -> str:
    """Return a letter, digit, space or other sign; the letter is none of those in 's, 't, 're, 've, 'm, 'll, 'd."""
    character = match[0]
    if character.isspace():
        return "\t"
    return {"L": "a", "N": "0"}.get(unicodedata.category(character)[0], "!")
