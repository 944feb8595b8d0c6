"""Engines by name, imported only when asked for."""

import subprocess
import sys

import pytest

from backends.engines import registry
from backends.engines.fake import FakeEngine
from backends.errors import SettingInvalid


def test_create_makes_the_named_engine() -> None:
    assert isinstance(registry.create("fake"), FakeEngine)


@pytest.mark.parametrize("call", [registry.create, registry.warm_up])
def test_unknown_engine_is_named_in_the_error(call: object) -> None:
    with pytest.raises(SettingInvalid, match="tensorrt"):
        call("tensorrt")  # type: ignore[operator]


def test_the_registry_imports_nothing_heavy() -> None:
    code = (
        "import sys; from backends.engines import registry;"
        "registry.create('fake'); registry.warm_up('fake');"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
