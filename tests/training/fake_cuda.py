"""Two updates and a measurement on a CUDA device that is not there: `fake_cuda.py HOOKS "OVERRIDE OVERRIDE…" …`.

Under FakeTensorMode no kernel runs, but a tensor on the wrong device, or a value read back from it, is an error.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.cuda.amp.common as amp_common
from compressai.layers import MaskedConv2d
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from regicomp.backbone import latent_coding
from regicomp.backbone.latent_coding import unmasked  # as it is, whatever a case before has put in its place
from regicomp.config import resolvers, settings
from regicomp.training.build import build_networks
from regicomp.training.module import RegularizedCodec


class Untrained(RegularizedCodec):
    """The module without Lightning's trainer; it logs nothing."""

    step = 0
    taken: Any = ()
    trainer = property(lambda self: SimpleNamespace(log_every_n_steps=10**9, strategy=None), lambda self, value: None)  # pyright: ignore
    global_step = property(lambda self: self.step)  # pyright: ignore

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        loss.backward(*args, **kwargs)

    def optimizers(self, *args: Any, **kwargs: Any) -> Any:
        return self.taken


class Wrapped:
    """An optimizer as Lightning wraps it."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups

    def step(self) -> None:
        self.optimizer.step()

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()


def move(module: nn.Module) -> None:
    """Every parameter and buffer becomes one of the device, without data."""
    moved: dict[int, Tensor] = {}

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in moved:
            empty = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="cuda")
            moved[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
        return moved[id(tensor)]

    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            tensors.update({name: fake(t) for name, t in tensors.items() if t is not None})  # pyright: ignore


def pretend(hooks: str) -> None:
    """Make autograd and autocast believe in the device."""
    for library in ("libc10.so", "libtorch_cpu.so"):  # whose functions the hooks call
        ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / library), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(hooks).pretend()
    amp_common.amp_definitely_not_available = lambda: False
    torch.cuda.is_bf16_supported = lambda *args, **kwargs: True


def updates(*overrides: str) -> set[str]:
    """Where all tensors are after an update in the warm-up, one behind it, and a forward pass as in the evaluation."""
    with initialize_config_dir(str(settings.conf_dir()), version_base="1.3"):
        found = settings.resolve(compose("train", overrides=["size=tiny", "reg.warmup_steps=1", *overrides]))
    module: Any = build_networks(found)
    # Coding, which needs numbers anyway, reads a context's mask back; here nobody could.
    places = {id(m): unmasked(m) for m in module.codec.modules() if isinstance(m, MaskedConv2d)}
    latent_coding.unmasked = lambda layer: places[id(layer)]
    module.__class__ = Untrained
    module.train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        move(module)
        module.phi = [p for p in module.codec.parameters() if p.requires_grad]
        module.theta = [] if module.regularizer is None else list(module.regularizer.source.parameters())
        module.taken = [Wrapped(optimizer) for optimizer in module.configure_optimizers()]
        side = found.data.crop
        crops = torch.empty(4, 3, side, side, dtype=torch.uint8, device="cuda")
        for module.step in (0, 500):
            with torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False):
                module.training_step(crops, 0)
        states = [t for o in module.taken for s in o.optimizer.state.values() for t in s.values()]
        held = [*module.parameters(), *module.buffers(), *(t for t in states if isinstance(t, Tensor))]
        return {str(t.device) for t in [*held, *measured(module)]}


def measured(module: Any) -> list[Tensor]:
    """x̂, the likelihoods and H_θ of one image on the device, as they are measured: without noise, at a level."""
    module.eval()
    for told in () if module.levels is None else module.levels._parts:
        if told is not None and hasattr(told, "set"):
            told.set(torch.tensor([1.5]).to("cuda"))
    with torch.inference_mode():
        x = torch.empty(1, 3, 128, 192, device="cuda")
        out = module.codec(x)
        found = [out["x_hat"], *out["likelihoods"].values()]
        if module.regularizer is not None:
            found.append(module.regularizer.source(x, out["x_hat"]))
    return found


if __name__ == "__main__":
    resolvers.register_resolvers()
    pretend(sys.argv[1])
    for case in sys.argv[2:]:
        print(case, *sorted(updates(*case.split())), sep=" | ", flush=True)
