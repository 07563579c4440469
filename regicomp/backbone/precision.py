"""Precision and memory format: the fastest for the hardware, with likelihoods in float32 in every case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from compressai.entropy_models import EntropyModel
from torch import Tensor, nn


class Precision(NamedTuple):
    """Precision and memory format of a run."""

    lightning: Literal["bf16-mixed", "32-true"]
    channels_last: bool
    tf32: bool = False  # whether CUDA may round float32 factors to 10 bits


# Flags of /proc/cpuinfo: x86 tiles (Xeon), x86 vectors (Zen 4 and later, Cooper Lake), Arm's BFMMLA and BFDOT.
_BF16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")


def bf16_flag(cpuinfo: str) -> str | None:
    """The first of a processor's flags, as /proc/cpuinfo lists them, that mean fast bf16 multiplication; or None."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    flags = {flag for name, _, value in lines if name.strip() in ("flags", "Features") for flag in value.split()}
    return next((flag for flag in _BF16_FLAGS if flag in flags), None)


def has_fast_bf16(device_type: str) -> bool:
    """Whether the hardware multiplies bf16 faster than float32: CUDA of capability 8.0, processors with such a flag."""
    if device_type == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")
    return device_type == "cpu" and cpuinfo.exists() and bf16_flag(cpuinfo.read_text()) is not None


def resolve(precision: str, channels_last: bool | str, device_type: str) -> Precision:
    """Resolve `precision` and `channels_last` on this hardware.

    By a rule, without a measurement, so that a run that resumes beside other work computes as before.

    Args:
        precision: "auto", "bf16", "float32", or "tf32": float32 whose factors CUDA rounds to 10 bits.
        channels_last: "auto", which is everywhere True, or True or False.
    """
    bf16 = precision == "bf16" or (precision == "auto" and has_fast_bf16(device_type))
    return Precision("bf16-mixed" if bf16 else "32-true", channels_last in ("auto", True), precision == "tf32")


def set_backends(precision: Precision) -> None:
    """Make float32 mean on CUDA what the run says; by itself PyTorch rounds the factors of convolutions to TF32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision.tf32


@contextmanager
def exact_float32(device_type: str) -> Iterator[None]:
    """Compute in exact float32 in the block: autocast is off, and CUDA rounds no factor to TF32's 10 bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


class _Float32Island:
    """Hooks that run one module outside autocast on float32 inputs."""

    def __init__(self) -> None:
        self._entered: list[Any] = []

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        del module
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        context = torch.autocast(tensors[0].device.type if tensors else "cpu", enabled=False)
        context.__enter__()
        self._entered.append(context)
        return tuple(_float32(a) for a in args), {k: _float32(v) for k, v in kwargs.items()}

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        del module, args, output
        self._entered.pop().__exit__(None, None, None)


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _float32_output(module: nn.Module, args: Any, output: Any) -> Any:
    del module, args
    return _float32(output)


def keep_entropy_in_float32(codec: nn.Module) -> None:
    """Make `codec` compute latents' quantization and likelihoods in float32 under autocast.

    Entropy models run outside autocast; the outputs of all other children (g_a, h_a, h_s, …) are widened, so that
    quantization noise and rounding are float32 wherever the codec applies them.
    """
    for module in codec.modules():
        if isinstance(module, EntropyModel):
            island = _Float32Island()
            module.register_forward_pre_hook(island.enter, with_kwargs=True)
            module.register_forward_hook(island.leave, always_call=True)
    for child in codec.children():
        if not isinstance(child, EntropyModel):
            child.register_forward_hook(_float32_output)


def compile_networks(
    codec: nn.Module, source: nn.Module | None, backend: str | Callable[..., Any] = "inductor"
) -> list[nn.Module]:
    """torch.compile the codec's networks and q_θ, in place; names in state dicts stay.

    Compiled are the largest modules that run as they stand: those that hold no entropy model, are no mere lists of
    modules, and are not called with functions (`compile_parts`). Entropy models are left alone: they draw noise and are
    cheap. Compiling happens at the first step, and again when the crop size changes; the full-size hyperprior took 74 s
    on 2 CPU cores.

    Args:
        codec, source: the networks; `source` is None where there is none.
        backend: torch.compile's.

    Returns:
        What was compiled.
    """
    compiled = [*_compilable(codec), *([] if source is None else [source])]
    # Networks of one class share their code, of which Dynamo would leave all but the first eight uncompiled.
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, 8 + len(compiled))
    for module in compiled:
        module.compile(backend=backend)
    return compiled


def _compilable(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        in_parts = isinstance(child, (nn.ModuleList, nn.ModuleDict)) or getattr(child, "compile_parts", False)
        if in_parts or any(isinstance(m, EntropyModel) for m in child.modules()):
            yield from () if isinstance(child, EntropyModel) else _compilable(child)
        elif any(True for _ in child.parameters()):
            yield child


class _Bf16Transform:
    """Hooks that run one module under bf16 autocast and widen its output."""

    def __init__(self) -> None:
        self._entered: list[Any] = []

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        del module
        context = torch.autocast(args[0].device.type, dtype=torch.bfloat16)
        context.__enter__()
        self._entered.append(context)

    def leave(self, module: nn.Module, args: Any, output: Any) -> Any:
        del module, args
        self._entered.pop().__exit__(None, None, None)
        return _float32(output)


@contextmanager
def transforms_in(codec: nn.Module, precision: str) -> Iterator[None]:
    """Let `codec` compute g_a and g_s, and nothing else, in `precision` in the block.

    The entropy model stays float32, so that a stream written in one precision is decoded to the same latent in the
    other. Evaluation, `compress` and `decompress` are all affected; a picture equals the encoder's reconstruction if
    both were computed in the same precision.

    Args:
        codec: has g_a and g_s, as CompressAI's have.
        precision: "float32", or "bf16", or "auto" for bf16 where the hardware is fast at it.

    Raises:
        ValueError: another precision, or bf16 for a codec without the two transforms.
    """
    if precision not in ("auto", "bf16", "float32"):
        raise ValueError(f"`precision` (={precision}) must be auto, bf16 or float32")
    first = next(codec.parameters(), None)
    device_type = "cpu" if first is None else first.device.type
    transforms = [getattr(codec, name, None) for name in ("g_a", "g_s")]
    if not all(isinstance(t, nn.Module) for t in transforms):
        if precision == "bf16":
            raise ValueError(f"`precision` (=bf16) needs a codec with g_a and g_s, which {type(codec).__name__} is not")
        precision = "float32"
    hooks: list[Any] = []
    if precision == "bf16" or (precision == "auto" and has_fast_bf16(device_type)):
        for transform in transforms:
            island = _Bf16Transform()
            hooks.append(transform.register_forward_pre_hook(island.enter))  # pyright: ignore
            hooks.append(transform.register_forward_hook(island.leave, always_call=True))  # pyright: ignore
    try:
        with exact_float32(device_type):
            yield
    finally:
        for hook in hooks:
            hook.remove()
