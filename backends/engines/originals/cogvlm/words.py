"""The tokenizers of CogVLM (Vicuna's, by SentencePiece) and of CogVLM2 (Llama 3's tokenizer.json).

Both read the words' own files. What a person types is text throughout: CogVLM's formats have no markup, so
that no special token can come out of a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import sentencepiece
from tokenizers import Tokenizer

from backends.errors import ModelDamaged
from backends.models.originals.cogvlm_words import tokenizer_file
from backends.text import Text


class Words(Protocol):
    """From text to ids and back."""

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, with no special token among them."""
        ...

    def decode(
        self,
        ids: Sequence[int],
        *,
        skip_special_tokens: bool = True,
        clean_up_tokenization_spaces: bool = False,
    ) -> str:
        """The text of `ids`; halves of characters are U+FFFD."""
        ...


class SentenceWords:
    """SentencePiece's own file. Ids that lie above its words have no text."""

    def __init__(self, file: Path) -> None:
        self._words = sentencepiece.SentencePieceProcessor(model_file=str(file))

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, with the space in front that the model was trained with."""
        found: list[int] = self._words.encode(_whole(text))
        return found

    def decode(
        self,
        ids: Sequence[int],
        *,
        skip_special_tokens: bool = True,
        clean_up_tokenization_spaces: bool = False,  # noqa: ARG002 - what transformers' tokenizers take
    ) -> str:
        """The text of `ids`, without the space in front."""
        known = [token for token in ids if token < len(self._words)]
        if skip_special_tokens:
            known = [
                token
                for token in known
                if not (self._words.is_control(token) or self._words.is_unknown(token))
            ]
        text: str = self._words.decode(known)
        return text


class MergedWords:
    """A tokenizer.json."""

    def __init__(self, file: Path) -> None:
        self._words = Tokenizer.from_file(str(file))
        self._words.encode_special_tokens = True  # as plain text
        self._words.no_truncation()
        self._words.no_padding()

    def encode(self, text: str) -> list[int]:
        """Ids of `text`."""
        found: list[int] = self._words.encode(_whole(text), add_special_tokens=False).ids
        return found

    def decode(
        self,
        ids: Sequence[int],
        *,
        skip_special_tokens: bool = True,
        clean_up_tokenization_spaces: bool = False,  # noqa: ARG002 - what transformers' tokenizers take
    ) -> str:
        """The text of `ids`."""
        text: str = self._words.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text


def read_words(place: Path) -> Words:
    """The tokenizer in the folder or file `place`. Raises ModelDamaged when its file can't be read."""
    file = tokenizer_file(place)
    try:
        if file is None:
            raise FileNotFoundError(place)
        return SentenceWords(file) if file.suffix == ".model" else MergedWords(file)
    except Exception as error:  # both libraries raise nearly anything on broken files
        name = (file or place).name
        detail = Text.of("cogvlm.words_broken", "{file} can't be read as a tokenizer's words.", file=name)
        raise ModelDamaged(path=str((file or place).parent), file=name, detail=detail) from error


def _whole(text: str) -> str:
    """Halves of surrogate pairs, which JSON and browsers let through, become U+FFFD: they are no text."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
