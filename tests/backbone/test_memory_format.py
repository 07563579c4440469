"""channels_last is used only where it is known not to end the process."""

from __future__ import annotations

import pytest
from torch import nn

from regicomp.backbone import precision

STRIDED = nn.Sequential(nn.Conv2d(3, 16, 1, stride=2))
PLAIN = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1))


@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize("setting", ["bf16", "float32"])
def test_a_strided_1x1_convolution_on_a_cpu(monkeypatch: pytest.MonkeyPatch, amx: bool, setting: str) -> None:
    """Its backward pass writes out of bounds, but in bf16 with AMX."""
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device_type: amx)
    safe = amx and setting == "bf16"
    assert precision.resolve(setting, "auto", STRIDED, "cpu").channels_last == safe
    assert precision.resolve(setting, "auto", PLAIN, "cpu").channels_last
    if not safe:
        with pytest.raises(ValueError, match=r"`channels_last` \(=True\) must be false or auto"):
            precision.resolve(setting, True, STRIDED, "cpu")
