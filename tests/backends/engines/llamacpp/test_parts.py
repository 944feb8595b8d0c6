"""What decides without the library: vocabularies, prompts, pictures, words for errors."""

from __future__ import annotations

import base64
import io
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from backends.engines.llamacpp.answer import token_ids
from backends.engines.llamacpp.capture import captured
from backends.engines.llamacpp.errors import why_not_answered, why_not_loaded
from backends.engines.llamacpp.exchange import Piece
from backends.engines.llamacpp.gpus import GpuShare, gpu_share
from backends.engines.llamacpp.library import load_library
from backends.engines.llamacpp.pictures import Geometry, PictureStore, fit_picture, picture_geometry
from backends.engines.llamacpp.prompt import Spelling, make_writer
from backends.engines.llamacpp.requests import request, with_probabilities
from backends.engines.llamacpp.server import ServerSettings, server_params
from backends.engines.llamacpp.vocabulary import Vocabulary, read_fragments, read_vocabulary, spelled
from backends.errors import (
    ContextExceeded,
    InternalError,
    ModelDamaged,
    ModelUnsupported,
    OutOfRam,
    SnugError,
)
from backends.messages import SamplingParams
from backends.models.gguf_header import GgufHeader, read_gguf_header
from tests.backends.engines.llamacpp.conftest import Files
from tests.support import gguf_files, tiny_gguf
from tests.support.answers import Draw, said, user
from tests.support.plans import make_plan

RED, BLUE = (255, 0, 0), (0, 0, 255)
WORDS = Vocabulary(("<|im_start|>", "<|im_end|>"), "<s>", "</s>")


class TestVocabulary:
    def test_markup_is_found(self, files: Files) -> None:
        path = files("text")
        found = read_vocabulary(path, read_gguf_header(path))
        assert found == Vocabulary(tiny_gguf.SPECIALS, "", "<|im_end|>", tiny_gguf.SPECIALS)

    def test_fragments_are_the_halves_of_characters(self, files: Files) -> None:
        path = files("text")
        found = read_fragments(path, read_gguf_header(path))
        assert len(found) == 128
        assert found[len(tiny_gguf.SPECIALS) + 0xE4] == b"\xe4"

    def test_markup_among_ordinary_words(self, tmp_path: Path) -> None:
        more = {
            "tokenizer.ggml.tokens": ["<unk>", "<|eot|>", "<b>", "</s>", "<0xE4>", "a"],
            "tokenizer.ggml.token_type": [2, 4, 4, 3, 6, 1],
            "tokenizer.ggml.bos_token_id": 99,
        }
        path = gguf_files.tiny(tmp_path / "m.gguf", more=more | {"tokenizer.ggml.model": "llama"})
        header = read_gguf_header(path)
        assert read_vocabulary(path, header) == Vocabulary(
            ("<unk>", "<|eot|>", "</s>"), "", "", ("<unk>", "<|eot|>", "<b>", "</s>")
        )
        assert read_fragments(path, header) == {4: b"\xe4"}

    def test_bytes_are_spelled_with_the_longest_pieces(self) -> None:
        fragments = {1: b"\xe4", 2: b"\xb8", 3: b"\xe4\xb8"}
        assert spelled(b"\xe4\xb8", 2, fragments) == (1, 2)
        assert spelled(b"\xe4\xb8", 1, fragments) == (3,)
        assert spelled(b"\xe4\xb8", 3, fragments) is None
        assert spelled(b"", 0, fragments) == ()
        assert spelled(b"", 1, fragments) is None
        assert spelled(b"\xe4", 0, fragments) is None
        assert spelled(b"\xb8", 1, {9: b"\xb8", 2: b"\xb8"}) == (2,)

    @pytest.mark.timeout(30)
    def test_many_ways_to_spell_are_not_all_tried(self) -> None:
        fragments = {size: b"\xe4" * size for size in range(1, 9)} | {9: b"\xb8\xe4"}
        assert spelled(b"\xe4" * 60 + b"\xb8", 40, fragments) is None
        found = spelled(b"\xe4" * 60, 40, fragments)
        assert found is not None
        assert (len(found), sum(found)) == (40, 60)

    def test_what_is_known_of_an_answer_stays(self) -> None:
        pieces = [Piece("a", 7, b"a", 1), Piece("?", 1, b"\xff\xe4", 3), Piece("b", 8, b"b", 4)]
        assert token_ids(pieces, lambda: {1: b"\xe4"}) == (7, 1, 8)

    def test_ids_of_control_tokens_within_an_answer_are_left_out(self) -> None:
        pieces = [Piece("a", 7, b"a", 1), Piece("b", 8, b"b", 3)]
        assert token_ids(pieces, dict) == (7, 8)


PLAIN = "{% for m in messages %}{{ m['role'] }}:{{ m['content'] }}|{% endfor %}"
PARTS = "{% for m in messages %}{% for p in m['content'] %}{{ p['text'] }}{% endfor %}|{% endfor %}"


class TestPrompt:
    @pytest.mark.parametrize(
        ("template", "before", "after"),
        [
            pytest.param(
                tiny_gguf.CHATML, "user\n", "\nWhat?<|im_end|>", id="a template that knows pictures"
            ),
            pytest.param(PLAIN, "user:", "\nWhat?|", id="one of strings"),
            pytest.param(PARTS, None, "What?|", id="one of texts"),
            pytest.param(None, "user\n", "\nWhat?<|im_end|>", id="none"),
        ],
    )
    def test_pictures_stand_where_the_template_puts_them(
        self, template: str | None, before: str | None, after: str, picture: Draw
    ) -> None:
        writer = make_writer(template, WORDS, sees=True)
        parts = list(writer.write([user(picture("red"), "What?")]).parts)
        if before is not None:
            assert str(parts.pop(0)).endswith(before)
        assert parts[0] == picture("red")
        assert str(parts[1]).startswith(after)

    def test_markers_around_a_picture_are_left_to_the_library(self, picture: Draw) -> None:
        template = tiny_gguf.CHATML.replace("<image>\n", "<|vision_start|><|image_pad|><|vision_end|>")
        writer = make_writer(template, WORDS, sees=True)
        parts = writer.write([user(picture("red"), "What?")]).parts
        assert not any("vision" in part for part in parts if isinstance(part, str))

    def test_a_model_without_eyes_reads_text_only(self, picture: Draw) -> None:
        writer = make_writer(PLAIN, WORDS, sees=False)
        assert writer.write([user(picture("red"), "What?")]).parts == ("user:What?|",)

    def test_templates_get_what_they_count_on(self) -> None:
        template = (
            "{{ bos_token }}{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}"
            "{{ {'ä': 1} | tojson }}{{ strftime_now('%Y') | length }}{{ eos_token }}{% endfor %}"
        )
        writer = make_writer(template, WORDS, sees=False)
        assert writer.write([user("Hi")]).parts == ('<s>Hi{"ä": 1}4</s>',)

    @pytest.mark.parametrize(
        ("spelling", "text", "expected"),
        [
            (Spelling(), "nai\u0308ve", "nai\u0308ve"),
            (Spelling(composed=True), "nai\u0308ve", "na\u00efve"),
            (Spelling(leading_space=True), "USER: a", " USER: a"),
            (Spelling(leading_space=True), " USER: a", " USER: a"),
            (Spelling(leading_space=True), "", ""),
            (Spelling(leading_space=True, markup=("<s>",)), "<s>[INST] a", "<s>[INST] a"),
            (Spelling(leading_space=True, markup=("<s>",)), "[INST] a", " [INST] a"),
        ],
    )
    def test_what_the_library_leaves_to_us(self, spelling: Spelling, text: str, expected: str) -> None:
        assert spelling.of(text) == expected
        template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
        writer = make_writer(template, WORDS, sees=False, spelling=spelling)
        if text:
            assert writer.write([user(text)]).parts == (expected,)

    def test_a_prompt_that_begins_with_a_picture_gets_no_space(self, picture: Draw) -> None:
        template = (
            "{% for m in messages %}{% for p in m['content'] %}{% if p['type'] == 'image' %}<image>"
            "{% else %}{{ p['text'] }}{% endif %}{% endfor %}{% endfor %}"
        )
        spelling = Spelling(leading_space=True, composed=True)
        writer = make_writer(template, WORDS, sees=True, spelling=spelling)
        assert writer.write([user(picture("red"), "a\u0308")]).parts == (picture("red"), "\u00e4")
        assert writer.write([user("a", picture("red"))]).parts == (" a", picture("red"))

    def test_a_template_can_not_reach_out(self) -> None:
        template = "{{ messages.__class__.__mro__ }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
        writer = make_writer(template, WORDS, sees=False)
        assert "list" not in str(writer.write([user("Hi")]).parts)

    def test_only_the_settled_part_of_a_draft_is_read_ahead(self, picture: Draw) -> None:
        writer = make_writer(tiny_gguf.CHATML, WORDS, sees=True)
        settled = writer.settled([user("a"), said("b"), user(picture("red"), "draft")]).parts
        assert settled[-2:] == (picture("red"), "\n")
        assert writer.settled([user("a")]).parts == ("<|im_start|>user\n",)


class TestPictures:
    @pytest.mark.parametrize(
        ("fit", "corner", "middle"),
        [("pad", (122, 116, 104), RED), ("crop", RED, RED), ("stretch", BLUE, RED)],
    )
    def test_another_shape_becomes_the_towers_square(
        self, fit: str, corner: tuple[int, int, int], middle: tuple[int, int, int]
    ) -> None:
        wide = Image.new("RGB", (90, 30), BLUE)
        wide.paste(RED, (15, 0, 75, 30))
        made = fit_picture(wide, Geometry(30, fit))
        assert made.size == (30, 30)
        assert made.getpixel((0, 0)) == corner
        assert made.getpixel((15, 15)) == middle

    def test_without_a_square_a_picture_stays(self) -> None:
        wide = Image.new("RGB", (90, 30))
        assert fit_picture(wide, Geometry(None)) is wide

    def test_the_same_picture_has_the_same_bytes(self, picture: Draw) -> None:
        one, other = (PictureStore(Geometry(32)).url(picture("red")) for _ in range(2))
        assert one == other
        head, _, body = one.partition(",")
        assert head == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(body))) as image:
            assert (image.size, image.mode, image.format) == ((32, 32), "RGB", "PNG")

    @pytest.mark.parametrize(
        ("kind", "more", "expected"),
        [
            ("mlp", {}, Geometry(336, "pad")),
            ("mlp", {"snug.picture.fit": "crop"}, Geometry(336, "crop")),
            ("mlp", {"clip.vision.image_grid_pinpoints": [336, 672]}, Geometry(None)),
            ("gemma3", {}, Geometry(None)),
        ],
    )
    def test_geometry_is_the_files(
        self, tmp_path: Path, kind: str, more: dict[str, object], expected: Geometry
    ) -> None:
        header: GgufHeader = read_gguf_header(gguf_files.eyes(tmp_path / "mmproj.gguf", kind, more=more))
        assert picture_geometry(header) == expected


class TestRequests:
    def test_every_choice_is_said(self) -> None:
        made = request([], SamplingParams(temperature=0.7, top_p=0.9, max_tokens=5, seed=9))
        assert (made["temperature"], made["top_p"], made["seed"], made["n_predict"]) == (0.7, 0.9, 9, 5)
        assert (made["top_k"], made["min_p"], made["repeat_penalty"], made["repeat_last_n"]) == (
            0,
            0.0,
            1.0,
            0,
        )
        assert made["samplers"].index("temperature") < made["samplers"].index("top_p")

    def test_no_temperature_is_greedy(self) -> None:
        made = request([], SamplingParams(temperature=1e-9, top_p=0.1))
        assert (made["temperature"], made["top_p"]) == (0.0, 1.0)
        # The likeliest word alone is left to draw from, after what a file's penalty makes of them.
        assert (made["samplers"], made["top_k"], made["post_sampling_probs"]) == (
            ["penalties", "top_k"],
            1,
            True,
        )

    def test_probabilities_are_those_of_the_model(self) -> None:
        made = with_probabilities(request([], SamplingParams(temperature=0.0)), 512)
        assert (made["top_logprobs"], made["post_sampling_probs"]) == (512, False)

    def test_a_files_penalty_looks_at_the_whole_context(self) -> None:
        made = request([], SamplingParams(), repetition_penalty=1.1, context_tokens=2048)
        assert (made["repeat_penalty"], made["repeat_last_n"]) == (1.1, 2048)


class TestCapture:
    def test_words_that_come_late_are_waited_for(self) -> None:
        with captured() as heard:
            late = threading.Timer(0.2, lambda: os.write(2, b"0.00.001.000 E no such thing\n"))
            late.start()
            heard.settle()
            late.join()
        assert heard.errors == ("no such thing",)

    def test_silence_is_not_waited_for_forever(self) -> None:
        with captured() as heard:
            heard.settle()
        assert heard.errors == ()


class TestErrors:
    @pytest.mark.parametrize(
        ("words", "kind", "sentence"),
        [
            ("error loading model: unknown model architecture: 'pear'", ModelUnsupported, "pear"),
            ("error loading model vocabulary: unknown pre-tokenizer type: 'fig'", ModelUnsupported, "fig"),
            ("tensor 'x' data is not within the file bounds", ModelDamaged, "rejects m.gguf"),
            ("alloc_tensor_range: failed to allocate CPU buffer of size 4096", OutOfRam, "4.0 KB"),
            ("clip_init: Failed to load CLIP model from x", ModelDamaged, "rejects eyes.gguf"),
            ("something that nobody foresaw", InternalError, "no reason known here"),
        ],
    )  # fmt: skip
    def test_why_a_model_was_not_loaded(self, words: str, kind: type[SnugError], sentence: str) -> None:
        found = why_not_loaded((words,), Path("m.gguf"), Path("eyes.gguf"))
        assert type(found) is kind
        assert sentence in str(found)

    @pytest.mark.parametrize(
        ("document", "kind"),
        [
            ({"type": "exceed_context_size_error", "n_prompt_tokens": 4509}, ContextExceeded),
            ({"type": "server_error", "message": "failed to allocate 512 bytes"}, OutOfRam),
            ({"type": "invalid_request_error", "message": "whatever"}, InternalError),
        ],
    )
    def test_why_a_question_was_refused(self, document: dict[str, object], kind: type[SnugError]) -> None:
        assert type(why_not_answered(document, 1024)) is kind

    def test_native_words_are_kept_and_passed_on(self, capfd: pytest.CaptureFixture[str]) -> None:
        import os

        with captured() as words:
            os.write(2, b"0.00.001.002 I fine\n0.00.001.003 E broken\nE bad\n")
        assert words.errors == ("broken", "bad")
        assert "fine" in capfd.readouterr().err


class TestGpus:
    @pytest.mark.parametrize(
        ("device_map", "visible", "expected"),
        [
            ({"token_embd": "cpu", "blk.0": "cpu", "blk.1": "cpu", "output": "cpu"}, (), GpuShare()),
            (
                {"mmproj": "cuda:0", "token_embd": "cpu", "blk.0": "cuda:0", "output_norm": "cuda:0"},
                (0,),
                GpuShare(2, (2,), pictures=True),
            ),
            (
                {"mmproj": "cpu", "blk.0": "cpu", "blk.1": "cuda:3", "blk.2": "cuda:1", "output": "cuda:1"},
                (3, 1),
                GpuShare(3, (1, 2), pictures=False),
            ),
            (
                {
                    "model.vision_tower": "cuda:0",
                    "model.language_model.embed_tokens": "cpu",
                    "model.language_model.layers.0": "cpu",
                    "model.language_model.layers.1": "cuda:0",
                    "model.language_model.norm": "cuda:0",
                    "lm_head": "cuda:0",
                },
                (0,),
                GpuShare(2, (2,), pictures=True),
            ),
        ],
        ids=["none", "all", "two of several, in their own order", "a checkpoint's names"],
    )  # fmt: skip
    def test_a_plans_map_is_what_the_library_is_told(
        self, device_map: dict[str, str], visible: tuple[int, ...], expected: GpuShare
    ) -> None:
        plan = make_plan("m.gguf", device_map=device_map, visible_gpus=visible)
        assert gpu_share(plan) == expected

    def test_the_parameters(self) -> None:
        library = load_library()
        settings = ServerSettings(
            Path("m.gguf"), None, 512, 2, 64, gpus=GpuShare(3, (1, 2), pictures=True), kept_mib=256
        )
        params = server_params(library, settings, Path("s.sock"))
        assert (params.n_gpu_layers, params.mmproj_use_gpu, params.cache_ram_mib) == (3, True, 256)
        assert list(params.tensor_split)[:3] == [1.0, 2.0, 0.0]
        alone = server_params(library, ServerSettings(Path("m.gguf"), None, 512, 2, 64), Path("s.sock"))
        assert (alone.n_gpu_layers, alone.mmproj_use_gpu) == (0, False)

    @pytest.mark.parametrize(("mapped", "mode"), [(True, "AUTO"), (False, "NONE")])
    def test_a_file_is_mapped_or_read(self, *, mapped: bool, mode: str) -> None:
        library = load_library()
        settings = ServerSettings(Path("m.gguf"), None, 512, 2, 64, mapped=mapped)
        expected = library.llama_load_mode[f"LLAMA_LOAD_MODE_{mode}"]
        assert server_params(library, settings, Path("s.sock")).load_mode == expected

    @pytest.mark.parametrize(
        ("system", "names"), [("win32", ["127.0.0.1"]), ("linux", ["s.sock"]), ("darwin", ["s.sock"])]
    )
    def test_nobody_else_hears_the_server(
        self, monkeypatch: pytest.MonkeyPatch, system: str, names: list[str]
    ) -> None:
        monkeypatch.setattr("backends.engines.llamacpp.server.sys", SimpleNamespace(platform=system))
        library, settings = load_library(), ServerSettings(Path("m.gguf"), None, 512, 2, 64)
        params = server_params(library, settings, Path("s.sock"))
        other = server_params(library, settings, Path("s.sock"))
        assert list(params.hostnames) == names
        assert system != "win32" or params.port == 0
        assert len(params.api_keys[0]) >= 43
        assert list(params.api_keys) != list(other.api_keys)
