"""llama.cpp for checkpoints that can be converted: when it is chosen, how precisely, and what is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backends.conversion.types import Layout, Offers
from backends.errors import SettingInvalid
from backends.hardware.types import HardwareSnapshot
from backends.models.types import ModelInfo
from backends.placement import converted_words as words
from backends.placement.export import plan_to_json
from backends.text import Text
from tests.support.asked import (
    BF16,
    CARD,
    FULL_DISK,
    LAPTOP,
    NO_GPU,
    OLD_CPU,
    SMALL,
    TINY,
    Asked,
    chosen,
    converted,
    said,
)
from tests.support.machines import GIB, MIB, machine, rtx_4060
from ui.i18n import Translator


@pytest.mark.parametrize(
    ("hardware", "preset", "set_", "expected"),
    [
        pytest.param(NO_GPU, "cpu", {}, ("llamacpp", "q8_0", "slow"), id="CPU only: 8 bits"),
        pytest.param(LAPTOP, "cpu", {}, ("llamacpp", "q8_0", "slow"), id="16 GB: 8 bits"),
        pytest.param(SMALL, "cpu", {}, ("llamacpp", "q4_0", "fits"), id="8 GB: 4 bits"),
        pytest.param(TINY, "cpu", {}, ("transformers", "bf16", "slow"), id="5 GB left: the disk"),
        pytest.param(FULL_DISK, "cpu", {}, ("transformers", "fp32", "slow"), id="no disk to convert on"),
        pytest.param(OLD_CPU, "cpu", {}, ("transformers", "fp32", "slow"), id="no AVX2"),
        pytest.param(
            machine(ram=64, features=()), "cpu", {}, ("llamacpp", "q8_0", "slow"), id="features not told"
        ),
        pytest.param(machine(ram=64, features=("neon",)), "cpu", {}, ("llamacpp", "q8_0", "slow"), id="Arm"),
        pytest.param(CARD, "cpu", {}, ("llamacpp", "q8_0", "slow"), id="CPU only beside a card"),
        pytest.param(
            NO_GPU, "cpu", {"precision": "f16"}, ("llamacpp", "f16", "slow"), id="16 bits on request"
        ),
        pytest.param(
            NO_GPU, "cpu", {"precision": "q4_0"}, ("llamacpp", "q4_0", "fits"), id="4 bits on request"
        ),
        pytest.param(
            NO_GPU,
            "cpu",
            {"engine": "transformers"},
            ("transformers", "fp32", "slow"),
            id="transformers on request",
        ),
        pytest.param(
            NO_GPU,
            "cpu",
            {"precision": "bf16"},
            ("transformers", "bf16", "slow"),
            id="a precision of transformers",
        ),
        pytest.param(
            NO_GPU, "cpu", {"engine": "llamacpp"}, ("llamacpp", "q8_0", "slow"), id="llama.cpp on request"
        ),
        pytest.param(LAPTOP, "cpu", {"precision": "f16"}, ("llamacpp", "f16", "no"), id="16 bits don't fit"),
        pytest.param(
            TINY, "cpu", {"engine": "llamacpp"}, ("llamacpp", "q4_0", "no"), id="llama.cpp, and nothing fits"
        ),
        pytest.param(NO_GPU, "auto", {}, ("llamacpp", "q4_0", "fits"), id="Recommended: what reads along"),
        pytest.param(
            machine(ram=64, features=BF16), "auto", {}, ("llamacpp", "q4_0", "fits"), id="Recommended, bf16"
        ),
        pytest.param(NO_GPU, "custom", {}, ("llamacpp", "q4_0", "fits"), id="Custom, nothing set"),
        pytest.param(NO_GPU, "mid", {}, ("llamacpp", "q8_0", "slow"), id="Balanced, no GPU"),
        pytest.param(NO_GPU, "low", {}, ("llamacpp", "q4_0", "fits"), id="Low, no GPU"),
        pytest.param(NO_GPU, "high", {}, ("transformers", "fp32", "no"), id="High needs GPUs"),
        pytest.param(CARD, "auto", {}, ("transformers", "fp16", "fits"), id="a card that holds it"),
        pytest.param(
            CARD, "auto", {"gpu_layers": 0}, ("llamacpp", "q4_0", "fits"), id="no layer on the card"
        ),
        pytest.param(CARD, "high", {}, ("transformers", "fp16", "fits"), id="High, a card that holds it"),
        pytest.param(
            machine(rtx_4060(), ram=64),
            "low",
            {},
            ("transformers", "nf4", "fits"),
            id="Low, a card that holds it",
        ),
    ],
)
def test_what_is_chosen(
    llava_7b: Asked,
    hardware: HardwareSnapshot,
    preset: str,
    set_: dict[str, Any],
    expected: tuple[str, str, str],
) -> None:
    result = llava_7b.plan(hardware, preset, **set_)
    assert chosen(result) == expected
    assert (result.conversion is not None) == (result.engine == "llamacpp")
    assert (result.format, result.model_path) == ("safetensors", str(llava_7b.model.path))
    assert [name for name, _ in result.device_map] == [module.name for module in llava_7b.model.modules]
    fits = all(share.total_bytes <= share.budget_bytes for share in result.devices)
    assert fits or result.verdict == "no"


@pytest.mark.parametrize(
    ("preset", "set_", "expected"),
    [
        pytest.param("cpu", {}, ("llamacpp", "q8_0"), id="CPU only: always"),
        pytest.param("auto", {}, ("transformers", "fp32"), id="Recommended: kernels outweigh weights"),
        pytest.param("custom", {}, ("transformers", "fp32"), id="Custom"),
        pytest.param("mid", {}, ("transformers", "fp32"), id="Balanced"),
        pytest.param("auto", {"engine": "llamacpp"}, ("llamacpp", "f16"), id="on request"),
        pytest.param("auto", {"precision": "q8_0"}, ("llamacpp", "q8_0"), id="a precision on request"),
    ],
)
def test_tiny_models_stay_with_transformers(
    tiny: Asked, preset: str, set_: dict[str, Any], expected: tuple[str, str]
) -> None:
    result = tiny.plan(NO_GPU, preset, **set_)
    assert (result.engine, result.precision, result.verdict) == (*expected, "fits")


class TestImpossibleSettings:
    @pytest.mark.parametrize(
        ("set_", "name", "why"),
        [
            ({"engine": "llamacpp", "precision": "int8"}, "precision", "llama.cpp gets no int8"),
            ({"engine": "llamacpp", "precision": "nf4"}, "precision", "llama.cpp gets no nf4"),
            ({"engine": "llamacpp", "precision": "bf16"}, "precision", "llama.cpp gets no bf16"),
            ({"engine": "transformers", "precision": "q8_0"}, "precision", "a precision of llama.cpp"),
            ({"engine": "transformers", "precision": "f16"}, "precision", "a precision of llama.cpp"),
            ({"precision": "q4_k_m"}, "precision", "a precision of GGUF files"),
            ({"engine": "llamacpp", "device_map": (("", "cpu"),)}, "device_map", "whole runs of layers"),
            ({"precision": "q8_0", "device_map": (("", "cpu"),)}, "device_map", "whole runs of layers"),
            ({"engine": "llamacpp", "cpu_layers_mode": "stream"}, "cpu_layers_mode", "compute there"),
            ({"engine": "llamacpp", "offload_dir": "/tmp/x"}, "offload_dir", "offload folder"),
            ({"engine": "remote"}, "engine", "run with transformers"),
        ],
    )
    def test_are_refused(self, llava_7b: Asked, set_: dict[str, Any], name: str, why: str) -> None:
        with pytest.raises(SettingInvalid) as raised:
            llava_7b.plan(NO_GPU, **set_)
        assert raised.value.values["name"] == name
        assert why in str(raised.value.why_text)
        assert str(raised.value.remedy_text)

    @pytest.mark.parametrize("set_", [{"engine": "llamacpp"}, {"precision": "q8_0"}, {"precision": "f16"}])
    @pytest.mark.parametrize(
        ("hardware", "told", "why"),
        [
            (NO_GPU, Offers(why_not=Text("t", "It is of clay.")), "It is of clay."),
            (OLD_CPU, None, "needs AVX2, which Test CPU does not have"),
            (NO_GPU, Offers(), "family llava can't be converted"),
        ],
    )
    def test_llamacpp_where_it_can_not_be(
        self,
        llava_7b: Asked,
        hardware: HardwareSnapshot,
        told: Offers | None,
        why: str,
        set_: dict[str, Any],
    ) -> None:
        with pytest.raises(SettingInvalid) as raised:
            Asked(llava_7b.model, told or llava_7b.offers).plan(hardware, **set_)
        assert why in str(raised.value.why_text)

    def test_a_context_beyond_a_window(self, llava_7b: Asked) -> None:
        short = _with_context(llava_7b, 2048)
        assert short.plan(NO_GPU).engine == "llamacpp"
        longer = short.plan(NO_GPU, context_tokens=4096)
        assert longer.engine == "transformers"
        assert "reads at most 2,048 tokens" in said(longer)
        with pytest.raises(SettingInvalid) as raised:
            short.plan(NO_GPU, context_tokens=4096, engine="llamacpp")
        assert raised.value.values["name"] == "context"


def _with_context(asked: Asked, tokens: int) -> Asked:
    def shorter(model: ModelInfo) -> ModelInfo:
        return replace(model, text=replace(model.text, max_context=tokens))

    variants = tuple(replace(one, model=shorter(one.model)) for one in asked.offers.variants)
    return Asked(asked.model, Offers(variants))


class TestConverting:
    def test_is_announced_with_its_time_and_disk(self, llava_7b: Asked) -> None:
        result = llava_7b.plan(NO_GPU)
        assert result.conversion is not None
        assert result.disk_needed_bytes == result.conversion.nbytes > 7 * GIB
        assert result.conversion.source_bytes == pytest.approx(2 * llava_7b.model.parameters, rel=0.01)
        # 180 MB/s on two cores; this machine has eight.
        assert result.expected.load_s > result.conversion.source_bytes / (4 * 180e6)
        assert "converted once, which takes about" in said(result)
        assert "compared with that of transformers" in said(result)

    def test_is_not_counted_when_it_was_done(self, llava_7b: Asked) -> None:
        once, then = llava_7b.plan(NO_GPU), converted(llava_7b).plan(NO_GPU)
        assert then.disk_needed_bytes == 0
        assert once.expected.load_s - then.expected.load_s > 15
        assert then.expected.tokens_per_s == once.expected.tokens_per_s
        assert then.devices == once.devices
        assert "converted already" in said(then)
        assert "picture positions come nearest moved by one" in said(then)

    def test_needs_no_disk_when_it_was_done(self, llava_7b: Asked) -> None:
        assert converted(llava_7b).plan(FULL_DISK).engine == "llamacpp"

    def test_a_full_disk_is_said_with_figures(self, llava_7b: Asked) -> None:
        auto, forced = llava_7b.plan(FULL_DISK), llava_7b.plan(FULL_DISK, engine="llamacpp")
        short = next(str(one.why_not) for one in auto.alternatives if one.engine == "llamacpp")
        assert "needs" in short
        assert "3.0 GB may be used" in short
        assert forced.verdict == "no"
        assert "Converting it for llama.cpp needs" in said(forced)

    def test_a_disk_that_holds_4_bits_gets_these(self, llava_7b: Asked) -> None:
        result = llava_7b.plan(machine(ram=64, disk=6.5))
        assert (result.engine, result.precision) == ("llamacpp", "q4_0")
        assert "Q8_0 does not fit: Converting it" in said(result)

    def test_takes_some_memory_before_the_model_does(self, tiny: Asked) -> None:
        result, done = tiny.plan(NO_GPU), converted(tiny).plan(NO_GPU)
        compared = converted(tiny, ready=False).plan(NO_GPU)
        assert 600 * MIB < result.load_peak_ram_bytes < 620 * MIB
        assert compared.load_peak_ram_bytes == 400 * MIB
        assert done.load_peak_ram_bytes < compared.load_peak_ram_bytes
        assert result.devices == compared.devices == done.devices

    def test_comparing_takes_time_too(self, llava_7b: Asked) -> None:
        compared = converted(llava_7b, ready=False).plan(NO_GPU)
        assert llava_7b.plan(NO_GPU).expected.load_s > compared.expected.load_s + 8

    def test_memory_for_it_must_be_there(self, tiny: Asked) -> None:
        narrow = (("cpu", 380 * MIB),)
        assert converted(tiny).plan(NO_GPU, engine="llamacpp", max_memory=narrow).verdict == "fits"
        assert tiny.plan(NO_GPU, engine="llamacpp", max_memory=narrow).verdict == "no"


class TestWords:
    def test_transformers_is_shown_beside_it(self, llava_7b: Asked) -> None:
        result = llava_7b.plan(NO_GPU)
        others = {(one.engine, one.precision): str(one.why_not) for one in result.alternatives}
        assert "tokens/s instead of" in others["transformers", "fp32"]
        assert "4-bit" in others["llamacpp", "q4_0"] or "Q4_0" in others["llamacpp", "q4_0"]

    def test_why_llamacpp(self, llava_7b: Asked) -> None:
        result = llava_7b.plan(NO_GPU)
        assert "llama.cpp runs it: on a processor it writes about" in said(result)
        assert "written as Q8_0: " in said(result)

    @pytest.mark.parametrize("preset", ["cpu", "auto", "low"])
    def test_why_not(self, llava_7b: Asked, preset: str) -> None:
        other = Asked(llava_7b.model, Offers(why_not=Text("t", "It is of clay.")))
        result = other.plan(machine(ram=64), preset)
        assert result.engine == "transformers"
        assert "can't run this model. It is of clay." in said(result)

    @pytest.mark.parametrize(
        ("hardware", "set_"),
        [
            (CARD, {}),
            (NO_GPU, {"engine": "transformers"}),
            (NO_GPU, {"precision": "bf16"}),
            (NO_GPU, {"device_map": (("", "cpu"),)}),
        ],
    )
    def test_nobody_asks_why_not(
        self, llava_7b: Asked, hardware: HardwareSnapshot, set_: dict[str, Any]
    ) -> None:
        other = Asked(llava_7b.model, Offers(why_not=Text("t", "It is of clay.")))
        assert "clay" not in said(other.plan(hardware, "auto", **set_))

    def test_what_concerns_files_of_other_people_is_not_said(
        self, models: dict[str, ModelInfo], offered: dict[str, Offers]
    ) -> None:
        result = Asked(models["text-6b"], offered["text-6b"]).plan(NO_GPU)
        assert result.engine == "llamacpp"
        assert "mmproj" not in said(result)
        assert "stay as the file holds them" not in said(result)
        assert "compared" not in said(result).lower()

    def test_json_has_the_conversion(self, llava_7b: Asked) -> None:
        document = plan_to_json(llava_7b.plan(NO_GPU))
        assert document["engine"] == "llamacpp"
        assert document["model"]["format"] == "safetensors"
        assert document["conversion"]["weights"] == "q8_0"
        assert document["conversion"]["pictures"] == "f16"
        assert document["conversion"]["ready"] is False
        assert document["conversion"]["layout"] is None
        assert plan_to_json(llava_7b.plan(NO_GPU, engine="transformers"))["conversion"] is None

    @pytest.mark.parametrize(
        ("compared", "gap", "told"),
        [
            ("model", 0.001, "test pictures, the picture positions come nearest moved by one."),
            ("model", 0.4, "answers about pictures may still differ"),
            ("library", 0.001, "could not be compared"),
        ],
    )
    def test_the_order_of_positions_claims_what_was_compared(
        self, llava_7b: Asked, compared: str, gap: float, told: str
    ) -> None:
        variants = tuple(
            replace(one, conversion=replace(one.conversion, compared=compared, gap=gap))
            for one in converted(llava_7b).offers.variants
        )
        assert told in said(Asked(llava_7b.model, Offers(variants)).plan(NO_GPU))

    def test_where_only_comparing_is_left_no_disk_is_counted(self, llava_7b: Asked) -> None:
        variants = tuple(
            replace(one, conversion=replace(one.conversion, nbytes=0, source_bytes=0))
            for one in llava_7b.offers.variants
        )
        result = Asked(llava_7b.model, Offers(variants)).plan(FULL_DISK)
        assert (result.engine, result.disk_needed_bytes) == ("llamacpp", 0)
        assert "comparing it with transformers once takes" in said(result)
        afresh = next(r for r in llava_7b.plan(NO_GPU).reasons if r.code == "converted.written")
        assert afresh in result.reasons

    @pytest.mark.parametrize(
        "sentence",
        [
            words.chosen(),
            words.chosen_beside(21.6, 4.7),
            words.written_as("Q8_0", 7 * GIB, 13 * GIB),
            words.written_as("F16", 13 * GIB, 13 * GIB + 9),
            words.no_room_for("Q8_0", words.short_disk(8 * GIB, GIB)),
            words.short_disk(GIB + 9, GIB),
            words.once(39.0, 7 * GIB),
            words.ready(7 * GIB),
            *(words.layout(layout.value, "model", 0.001) for layout in Layout),
            words.layout("plain", "model", 0.4),
            words.layout("plain", "library", 0.001),
            words.compare_once(12.0),
            words.shorter_context(),
            words.layout_later(),
            words.cant(words.not_installed()),
            words.cant(words.no_avx2("Intel Xeon E5-2670")),
            words.cant(words.short_context(4096)),
            words.not_offered("florence2"),
        ],
        ids=lambda sentence: sentence.code,
    )
    def test_sentences_are_whole_in_both_languages(self, sentence: Text) -> None:
        english, chinese = (Translator(language).text(sentence) for language in ("en", "zh"))
        assert english == str(sentence)
        assert english.endswith(".")
        assert chinese.endswith("。")
        assert "{" not in english + chinese
        assert chinese != english
