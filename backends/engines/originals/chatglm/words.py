"""ChatGLM3's tokenizer: SentencePiece, and nine special tokens whose ids follow its words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import sentencepiece

from backends.errors import ModelDamaged
from backends.models.originals.chatglm import SPECIALS, words_file
from backends.text import Text


class ChatGLMWords:
    """From text to ids and back. Whatever stands in a text stays text: special tokens have ids only."""

    def __init__(self, file: Path) -> None:
        self._words = sentencepiece.SentencePieceProcessor(model_file=str(file))
        self._first = len(self._words)

    def special(self, name: str) -> int:
        """The id of a special token."""
        return self._first + SPECIALS.index(name)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, with the space in front that every text begins with; none for an empty one.

        Halves of surrogate pairs, which JSON and browsers let through, become U+FFFD: they are no text.
        """
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        found: list[int] = self._words.encode(whole)
        return found

    def decode(
        self,
        ids: Sequence[int],
        *,
        skip_special_tokens: bool = True,
        clean_up_tokenization_spaces: bool = False,  # noqa: ARG002 - what transformers' tokenizers take
    ) -> str:
        """The text of `ids`, without the space in front. Ids that only pad the table have none."""
        pieces = [
            self._piece(token) for token in ids if self._has_text(token, specials=not skip_special_tokens)
        ]
        text: str = self._words.decode_pieces(pieces)
        return text

    def _has_text(self, token: int, *, specials: bool) -> bool:
        if token < self._first:
            return specials or not (self._words.is_control(token) or self._words.is_unknown(token))
        return specials and token < self._first + len(SPECIALS)

    def _piece(self, token: int) -> str:
        if token >= self._first:
            return SPECIALS[token - self._first]
        piece: str = self._words.id_to_piece(token)
        return piece


def read_words(place: Path) -> ChatGLMWords:
    """The tokenizer in the folder or file `place`. Raises ModelDamaged when its file can't be read."""
    file = words_file(place)
    try:
        return ChatGLMWords(file)
    except (OSError, RuntimeError, ValueError) as error:
        detail = Text.of("convert.pieces", "{file} is not a file of SentencePiece.", file=file.name)
        raise ModelDamaged(path=str(file.parent), detail=detail, file=file.name) from error
