"""GPUs count for GGUF files only where the installed llama.cpp can use them."""

from __future__ import annotations

from pathlib import Path

from backends.hardware.llama_build import computes_on_gpus, mentions, without_gpus
from tests.support.machines import gpu, machine

TWO = machine(gpu(0), gpu(1), ram=32)


def test_a_build_for_the_processor_leaves_gpus_out_and_says_so() -> None:
    bare = without_gpus(TWO, able=False)
    assert bare.gpus == ()
    assert [index for index, _ in bare.left_out] == [0, 1]
    assert {str(why) for _, why in bare.left_out} == {
        "The installed llama.cpp computes on the processor only, so it uses no GPU."
    }


def test_one_for_gpus_keeps_them() -> None:
    assert without_gpus(TWO, able=True) is TWO
    none = machine(ram=32)
    assert without_gpus(none, able=False) is none


def test_the_default_dependency_is_built_for_the_processor() -> None:
    assert computes_on_gpus() is False


def test_a_package_that_is_not_there() -> None:
    assert computes_on_gpus("no-such-package-of-anybody") is False


def test_a_build_is_told_by_its_functions(tmp_path: Path) -> None:
    library = tmp_path / "module.so"
    library.write_bytes(b"\0" * 100 + b"ggml_backend_cuda_reg\0")
    assert mentions(library, b"ggml_backend_cuda_reg")
    assert not mentions(library, b"ggml_backend_vulkan_reg")
    (tmp_path / "empty.so").touch()
    assert not mentions(tmp_path / "empty.so", b"a")
    assert not mentions(tmp_path / "absent.so", b"a")
