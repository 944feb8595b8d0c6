"""Settings from the environment."""

from __future__ import annotations

import pytest

from backends.errors import SettingInvalid
from backends.settings import load_settings


@pytest.mark.parametrize(
    ("written", "limit"),
    [("", 40 << 30), (" ", 40 << 30), ("0", 0), ("12", 12 << 30), (" 1.5 ", 3 << 29)],
)
def test_how_much_converted_models_may_take(written: str, limit: int) -> None:
    assert load_settings({"SNUG_CONVERTED_GB": written}).converted_limit_bytes == limit


@pytest.mark.parametrize("written", ["much", "-1", "1e9", "9" * 30, "nan", "4,5"])
def test_a_limit_that_is_none_is_named(written: str) -> None:
    with pytest.raises(SettingInvalid, match="SNUG_CONVERTED_GB can't be"):
        load_settings({"SNUG_CONVERTED_GB": written})


@pytest.mark.parametrize(
    ("written", "on"),
    [("1", True), ("yes", True), (" TRUE ", True), ("0", False), ("", False), ("no", False)],
)
def test_whether_the_machine_stays_usable(written: str, on: bool) -> None:
    assert load_settings({"SNUG_LEAVE_ROOM": written}).leave_room is on
