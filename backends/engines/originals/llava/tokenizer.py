"""The tokenizers of LLaVA's checkpoints, with the ids that the authors' code gets from the same files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from sentencepiece import SentencePieceProcessor
from sentencepiece import sentencepiece_model_pb2 as model_format
from tokenizers import Tokenizer

from backends.engines.template import plain_text
from backends.errors import ModelDamaged
from backends.models.checkpoint import read_json_if_there
from backends.text import Text, shown_name

_WORDS, _JSON = "tokenizer.model", "tokenizer.json"
_SPACE = "\u2581"  # SentencePiece's own sign for a space
# Tables are padded to such multiples, by fewer rows than this.
_TABLE_STEP, _MOST_SPARE = 64, 512
# The most tokens that were trained in addition: those around and for pictures, and padding.
_ADDED_LATER = 8


@dataclass(frozen=True, slots=True)
class Markup:
    """Text that a format wrote: the tokenizer's special tokens in it count as such."""

    text: str


class Words(Protocol):
    """A tokenizer. `encode` adds no token of its own; `start` is what stands before a prompt, if anything."""

    start: tuple[int, ...]
    eos_token_id: int

    def __len__(self) -> int:
        """One more than the largest id."""
        ...

    def encode(self, pieces: Iterable[str | Markup]) -> list[int]:
        """Ids of a text given in pieces."""
        ...

    def decode(
        self,
        ids: Sequence[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,
    ) -> str:
        """The text of ids."""
        ...

    def single(self, text: str) -> frozenset[int]:
        """The ids of tokens that are this text, with or without a space before it."""
        ...


def open_tokenizer(folder: Path, table: int) -> Words:
    """The tokenizer in `folder` for a model with a `table` of embeddings: of tokenizer.model, else .json.

    Raises ModelDamaged when there is none, it can't be read, or it is another model's.
    """
    settings = read_json_if_there(folder / "tokenizer_config.json")
    special = _special(folder, settings)
    if (folder / _WORDS).is_file():
        words: Words = SentenceWords(folder / _WORDS, settings, special)
    elif (folder / _JSON).is_file():
        words = JsonWords(folder / _JSON, settings, special)
    else:
        detail = Text("engine.no_tokenizer", "The folder holds no tokenizer, which turns words into tokens.")
        raise ModelDamaged(path=str(folder), file=_WORDS, detail=detail)
    spare = table - len(words)
    padded = table % _TABLE_STEP == 0 and spare < _MOST_SPARE
    if spare < 0 or not (spare <= _ADDED_LATER or padded):
        detail = Text.of(
            "engine.foreign_tokenizer",
            "Its tokenizer has {words:count} tokens and the model {table:count}: it is another model's.",
            words=len(words),
            table=table,
        )
        raise ModelDamaged(path=str(folder), file=_WORDS, detail=detail)
    return words


class SentenceWords:
    """SentencePiece's words read as LLaMA's tokenizer of 2023 did, from which models learned.

    Special tokens cut a text into runs. `legacy` ones each begin as if with a space; else only the text does.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], special: _Special) -> None:
        try:
            data = path.read_bytes() or b"nothing"
            self._model = SentencePieceProcessor(model_proto=data)
        except (OSError, RuntimeError) as error:
            raise _unreadable(path) from error
        proto = model_format.ModelProto.FromString(data)
        proto.normalizer_spec.add_dummy_prefix = False
        self._bare = SentencePieceProcessor(model_proto=proto.SerializeToString())
        self._legacy = settings.get("legacy") is not False
        self._added = {**_control_ids(self._model), **special.ids}
        self._special = {text: id_ for text, id_ in self._added.items() if id_ is not None}
        self._texts = {id_: text for text, id_ in self._special.items()}
        self._unknown = special.unknown
        # Words that the model itself never splits: only a format may write them.
        self._whole = tuple(
            piece.piece for piece in proto.pieces if piece.type == piece.USER_DEFINED and len(piece.piece) > 1
        )
        self._cut = _splitter(self._special)
        self.eos_token_id = self._id(special.eos, self._model.eos_id())
        bos = self._id(special.bos, self._model.bos_id())
        self.start: tuple[int, ...] = (
            (bos,) if settings.get("add_bos_token") is not False and bos >= 0 else ()
        )

    def __len__(self) -> int:
        return int(self._model.vocab_size())

    def encode(self, pieces: Iterable[str | Markup]) -> list[int]:
        """Ids of a text given in pieces."""
        runs = list(self._runs(pieces))
        if self._legacy:
            return [
                id_ for run in runs for id_ in ([run] if isinstance(run, int) else self._model.encode(run))
            ]
        if runs and isinstance(runs[0], str):
            runs[0] = _SPACE + runs[0]
        ids: list[int] = []
        for run in runs:
            ids += [run] if isinstance(run, int) else self._piece(run)
        return ids

    def decode(
        self,
        ids: Sequence[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,  # noqa: ARG002
    ) -> str:
        """The text of ids; ids that no word has are left out."""
        known = [int(id_) for id_ in ids if int(id_) in self._texts or int(id_) < len(self)]
        if skip_special_tokens:
            return str(self._model.decode([id_ for id_ in known if id_ not in self._texts]))
        texts: list[str] = []
        for special, group in groupby(known, key=self._texts.__contains__):
            texts += [self._texts[id_] for id_ in group] if special else [self._model.decode(list(group))]
        return "".join(texts)

    def single(self, text: str) -> frozenset[int]:
        """The ids of tokens that are this text, with or without a space before it."""
        if text in self._special:
            return frozenset({self._special[text]})
        spelled = (text, _SPACE + text, f"<0x{ord(text):02X}>" if len(text) == 1 and text.isascii() else text)
        ids = {self._model.piece_to_id(word) for word in spelled}
        return frozenset(ids - {self._model.unk_id()})

    def _runs(self, pieces: Iterable[str | Markup]) -> Iterator[str | int]:
        """Texts between special tokens, and these."""
        text = ""
        for piece in pieces:
            if isinstance(piece, str):
                text += plain_text(piece, self._whole)
                continue
            for part in self._cut.split(piece.text) if self._cut else [piece.text]:
                if part not in self._special:
                    text += part
                    continue
                if text:
                    yield text
                yield self._special[part]
                text = ""
        if text:
            yield text

    def _piece(self, text: str) -> list[int]:
        """Ids of a run whose first space counts, which SentencePiece drops at the start of a text."""
        text = text.replace(_SPACE, " ")
        if not text.startswith(" "):
            return list(self._bare.encode(text))
        before = len(self._bare.encode(self._unknown))
        ids = list(self._bare.encode(self._unknown + text))
        return ids[before:] if len(ids) >= before else ids

    def _id(self, text: str | None, otherwise: int) -> int:
        found = self._special.get(text) if text else None
        return int(otherwise) if found is None else found


class JsonWords:
    """The words of a tokenizer.json, which says itself how to read a text."""

    def __init__(self, path: Path, settings: Mapping[str, Any], special: _Special) -> None:
        try:
            self._model = Tokenizer.from_file(str(path))
        except Exception as error:  # what the library raises has no narrower type
            raise _unreadable(path) from error
        self._reserved = tuple(
            token.content for token in self._model.get_added_tokens_decoder().values() if token.special
        )
        self.eos_token_id = self._id(special.eos or "</s>")
        bos = self._id(special.bos or "<s>")
        adds = settings.get("add_bos_token")
        if adds is None:
            adds = self._model.encode("a").ids[:1] == [bos]
        self.start: tuple[int, ...] = (bos,) if adds and bos >= 0 else ()

    def __len__(self) -> int:
        return int(self._model.get_vocab_size(with_added_tokens=True))

    def encode(self, pieces: Iterable[str | Markup]) -> list[int]:
        """Ids of a text given in pieces."""
        text = "".join(
            piece.text if isinstance(piece, Markup) else plain_text(piece, self._reserved) for piece in pieces
        )
        return list(self._model.encode(text, add_special_tokens=False).ids)

    def decode(
        self,
        ids: Sequence[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,  # noqa: ARG002
    ) -> str:
        """The text of ids."""
        return str(self._model.decode([int(id_) for id_ in ids], skip_special_tokens=skip_special_tokens))

    def single(self, text: str) -> frozenset[int]:
        """The ids of tokens that are this text, with or without a space before it."""
        found = (self._model.token_to_id(word) for word in (text, _SPACE + text, f"\u0120{text}"))
        return frozenset(id_ for id_ in found if id_ is not None)

    def _id(self, text: str) -> int:
        found = self._model.token_to_id(text)
        return -1 if found is None else int(found)


@dataclass(frozen=True, slots=True)
class _Special:
    """Special tokens that the files beside the words name, and which of them begins and ends a text."""

    ids: Mapping[str, int]
    bos: str | None
    eos: str | None
    unknown: str


def _special(folder: Path, settings: Mapping[str, Any]) -> _Special:
    ids = {
        text: id_
        for text, id_ in read_json_if_there(folder / "added_tokens.json").items()
        if isinstance(id_, int)
    }
    decoder = settings.get("added_tokens_decoder")
    for id_, token in decoder.items() if isinstance(decoder, dict) else ():
        if (text := _content(token)) and str(id_).isdigit():
            ids[text] = int(id_)
    named = {**read_json_if_there(folder / "special_tokens_map.json"), **settings}
    unknown = _content(named.get("unk_token")) or "<unk>"
    return _Special(ids, _content(named.get("bos_token")), _content(named.get("eos_token")), unknown)


def _content(token: object) -> str | None:
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) and token else None


def _control_ids(model: Any) -> dict[str, int]:
    """Signs like `</s>`, which SentencePiece never finds in a text."""
    return {
        model.id_to_piece(id_): id_
        for id_ in range(model.vocab_size())
        if model.is_control(id_) or model.is_unknown(id_)
    }


def _splitter(special: Iterable[str]) -> re.Pattern[str] | None:
    longest_first = sorted(special, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})") if longest_first else None


def _unreadable(path: Path) -> ModelDamaged:
    detail = Text.of(
        "engine.tokenizer_unreadable", "{file} can't be read as a tokenizer.", file=shown_name(path.name)
    )
    return ModelDamaged(path=str(path.parent), file=path.name, detail=detail)
