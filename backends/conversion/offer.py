"""What a checkpoint can be converted to, with exact sizes, from its config and headers alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backends.conversion import layouts
from backends.conversion.cache import named, stem
from backends.conversion.checkpoint import Checkpoint, look_at
from backends.conversion.layouts import Compared
from backends.conversion.making import is_whole
from backends.conversion.refusal import LANGUAGE, refused
from backends.conversion.types import (
    Conversion,
    Document,
    Layout,
    Offers,
    Piece,
    Request,
    Value,
    Variant,
    WeightType,
)
from backends.errors import ModelDamaged, ModelNotFound, ModelUnsupported
from backends.models.identify import picture_processor
from backends.models.types import GgufDetails, ModelInfo, Module, ModuleKind
from backends.storage import unwritable
from backends.text import Text

KINDS = (WeightType.F16, WeightType.Q8_0, WeightType.Q4_0)
VISION_KIND = WeightType.F16
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
_FLOATS = frozenset({"bfloat16", "float16", "float32", "float64"})
# A word as text, its length and its kind, where the tokenizer is not there to be counted.
_WORD_BYTES = 24
# The tower's layouts differ by a row at most: any of them stands for the others' sizes.
_ANY_LAYOUT = Layout.PLAIN
_UNREADABLE = Text("offer.unreadable", "It can't be converted for llama.cpp: its files are not as expected.")
_LAYOUT = Text(
    "offer.layout", "llama.cpp is not given checkpoints in their authors' own layout: transformers runs it."
)
_ADAPTER = Text("offer.adapter", "llama.cpp gets no LoRA here: it is merged by transformers, while loading.")


def offers(model: ModelInfo, cache: Path, *, library: str = "") -> Offers:
    """What llama.cpp can be given of `model`; nothing, and why, where that can't be. Never raises.

    `cache` is the folder of converted files; what is ready there was made for the version `library` of the
    library, as far as pictures go. Copies of headers are described, too; a tokenizer that such a copy lacks
    is taken for one that can be written.
    """
    if model.format == "gguf":
        return Offers()
    if model.adapter is not None:
        return Offers(why_not=_ADAPTER)
    if model.layout != "native":
        return Offers(why_not=_LAYOUT)
    try:
        return Offers(tuple(_variants(model, cache, library)))
    except (ModelUnsupported, ModelDamaged, ModelNotFound) as error:
        detail = error.values.get("detail")
        return Offers(why_not=detail if isinstance(detail, Text) else _UNREADABLE)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        return Offers(why_not=_UNREADABLE)


def makeable(found: Offers, cache: Path) -> Offers:
    """What is left of `found` where `cache` can't be written: what is ready there."""
    if all(one.conversion.ready for one in found.variants) or unwritable(cache) is None:
        return found
    ready = tuple(one for one in found.variants if one.conversion.ready)
    why = Text.of(
        "offer.read_only",
        "It can't be converted for llama.cpp: {path} can't be written.",
        path=str(cache),
    )
    return Offers(ready) if ready else Offers(why_not=why)


def unconverted(found: Offers) -> Offers:
    """The same for a machine on which nothing has been converted yet."""
    return replace(
        found,
        variants=tuple(
            replace(one, conversion=one.afresh, afresh=None) if one.afresh is not None else one
            for one in found.variants
        ),
    )


def _variants(model: ModelInfo, cache: Path, library: str) -> Iterator[Variant]:
    checkpoint = look_at(model)
    words = _words(model, checkpoint)
    words_bytes = Document("", words, ()).nbytes if words is not None else model.text.vocab * _WORD_BYTES
    pictures: Document | None = None
    if model.vision is not None:
        processor = _processor(model)
        pictures = checkpoint.picture_document(_ANY_LAYOUT, VISION_KIND, processor)
    made = _Made(cache, stem(model.path), library)
    for kind in KINDS:
        text = checkpoint.text_document(kind, {})
        files = _Files(model, checkpoint, text, pictures, words, words_bytes)
        files.check()
        yield Variant(files.info(kind), files.conversion(kind, made), files.afresh(kind, made.cache))


def _words(model: ModelInfo, checkpoint: Checkpoint) -> Mapping[str, Value] | None:
    """The tokenizer's metadata; None where a copy of headers has none."""
    if any((model.path / name).is_file() for name in _TOKENIZERS) or model.weights_present:
        return checkpoint.words()
    return None


def _processor(model: ModelInfo) -> Mapping[str, Any]:
    """The pictures' settings; where a copy of headers has none, those that suit the tower."""
    found = picture_processor(model.path)
    if found or model.weights_present or model.vision is None:
        return found
    side = model.vision.image_size
    return {"size": side, "crop_size": side}


@dataclass(frozen=True, slots=True)
class _Made:
    """What was made before: `beginning` is that of the files' names."""

    cache: Path
    beginning: str
    library: str

    def choice(self) -> layouts.Choice | None:
        """What was chosen for this library."""
        found = layouts.read(self.cache, self.beginning, self.library)
        return found if found is not None and found.compared is not Compared.NOTHING else None

    def text(self, kind: WeightType) -> bool:
        """Whether the text part is there."""
        return is_whole(named(self.beginning, Request(Path(), self.cache, kind)).text)

    def pictures(self, layout: Layout | None) -> bool:
        """Whether the picture part is there: in any layout, where none is chosen for this library yet.

        Another version of the library reads mostly the same one best.
        """
        requests = (Request(Path(), self.cache, layout=one, vision_kind=VISION_KIND) for one in Layout)
        paths = {
            one: named(self.beginning, request).mmproj for one, request in zip(Layout, requests, strict=True)
        }
        wanted = paths.values() if layout is None else (paths[layout],)
        return any(path is not None and is_whole(path) for path in wanted)


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of one kind, described. `text` has no words; `words` is None where nobody knows them."""

    model: ModelInfo
    checkpoint: Checkpoint
    text: Document
    pictures: Document | None
    words: Mapping[str, Value] | None
    words_bytes: int

    def check(self) -> None:
        """Raise ModelUnsupported for numbers of another kind than the converter reads."""
        for piece in self.pieces:
            if piece.source and (dtype := self.checkpoint.tensors[piece.source].tensor.dtype) not in _FLOATS:
                raise refused(self.model.path, LANGUAGE, dtype)

    @property
    def pieces(self) -> list[Piece]:
        return [piece for one in self.documents for piece in one.pieces]

    @property
    def documents(self) -> tuple[Document, ...]:
        return (self.text,) if self.pictures is None else (self.text, self.pictures)

    def info(self, kind: WeightType) -> ModelInfo:
        """The model as these files hold it, in the checkpoint's modules."""
        model, text = self.model, self.model.text
        matrices = [piece.nbytes for piece in self.text.pieces if piece.name.startswith("blk.")]
        stated = self.text.values.get(f"{self.text.architecture}.context_length")
        limit = stated if isinstance(stated, int) else text.max_context
        modules = _modules(model.modules, self.pieces)
        return replace(
            model,
            format="gguf",
            dtype=kind.value,
            weights_bytes=sum(module.nbytes for module in modules),
            text=replace(
                text,
                max_context=min(text.max_context, limit),
                tied_embeddings=not any(piece.name == "output.weight" for piece in self.text.pieces),
            ),
            modules=modules,
            gguf=GgufDetails(
                chat_template=self.words is None or "tokenizer.chat_template" in self.words,
                mmproj="mmproj" if self.pictures is not None else None,
                largest_matrix_bytes=max(matrices, default=0),
            ),
        )

    def conversion(self, kind: WeightType, made: _Made) -> Conversion:
        """What has to be done for them; of files that are there, nothing."""
        choice = made.choice() if self.pictures is not None else None
        text = made.text(kind)
        pictures = self.pictures is None or made.pictures(choice.layout if choice is not None else None)
        ready = text and pictures and (self.pictures is None or (choice is not None and choice.settled))
        if ready:
            found = self.afresh(kind, made.cache)
        else:
            found = self._of(kind, made.cache, text=not text, pictures=not pictures)
        if choice is None:
            return replace(found, ready=ready)
        compared = choice.compared.value
        return replace(found, ready=ready, layout=choice.layout, compared=compared, gap=choice.gap)

    def afresh(self, kind: WeightType, cache: Path) -> Conversion:
        """What has to be done where nothing is there."""
        return self._of(kind, cache, text=True, pictures=self.pictures is not None)

    def _of(self, kind: WeightType, cache: Path, *, text: bool, pictures: bool) -> Conversion:
        """Bytes of one of the parts, or of both."""
        parts = [self.text] if text else []
        parts += [self.pictures] if pictures and self.pictures is not None else []
        read = {piece.source for part in parts for piece in part.pieces if piece.source}
        return Conversion(
            cache=str(cache),
            kind=kind,
            vision_kind=VISION_KIND if self.pictures is not None else None,
            nbytes=sum(part.nbytes for part in parts) + (self.words_bytes if text else 0),
            source_bytes=sum(self.checkpoint.tensors[name].tensor.nbytes for name in read),
        )


def _modules(modules: Sequence[Module], pieces: Sequence[Piece]) -> tuple[Module, ...]:
    """The modules with the bytes of their pieces.

    llama.cpp keeps every token of every layer, whatever window the checkpoint has: the file's context ends
    there.
    """
    sizes = dict.fromkeys((module.name for module in modules), 0)
    for piece in pieces:
        sizes[_holder(piece, modules, sizes)] += piece.nbytes
    return tuple(replace(module, nbytes=sizes[module.name], cache=None) for module in modules)


def _holder(piece: Piece, modules: Sequence[Module], names: Mapping[str, int]) -> str:
    """The module that holds a piece's source; numbers that the checkpoint lacks lie with their neighbours."""
    path = piece.source
    while path and path not in names:
        path = path.rpartition(".")[0]
    if path:
        return path
    kind = ModuleKind.PROJECTOR if piece.name.startswith("mm.") else ModuleKind.EMBED
    return next(module.name for module in modules if module.kind is kind)
