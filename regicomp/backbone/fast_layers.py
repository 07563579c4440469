"""CompressAI's slow layers, computed in another way; most of them only where no gradient is asked for.

Weights and state-dict names are CompressAI's; only the order of summation differs. `quicken` puts them in.

Legend: B batch, C channels, H W pixels.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from compressai.layers import GDN, AttentionBlock, ResidualBlock
from compressai.models.sensetime import ResidualBottleneckBlock
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Pixels whose squares and norms are held at a time: 512 of 128 channels stay in a core's cache.
_BLOCK = 512
# Transposed convolutions to so few channels leave most of a vector register idle; sub-pixels fill it.
_FEW_CHANNELS = 4


class _Normalized(torch.autograd.Function):
    """x · (β + γ x²)^∓½ of pixels as rows, with few passes over memory forward and backward.

    With s = β + γ x² and n = s^∓½, the gradient of x is g n ∓ x (γᵀ (g x n / s)), since ∂n/∂s = ∓½ n / s.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, inverse: bool) -> Tensor:
        """(pixels, C), (C, C), (C,) -> (pixels, C)."""
        norm = torch.addmm(beta, x * x, gamma.t())
        norm = norm.sqrt_() if inverse else norm.rsqrt_()
        ctx.save_for_backward(x, gamma, norm)
        ctx.inverse = inverse
        return x * norm

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # pyright: ignore
        """Gradients of x, γ and β."""
        (gradient,), (x, gamma, norm) = gradients, ctx.saved_tensors
        of_norm = gradient * x  # times ∂n/∂s it is the gradient of s, here without the factor ½
        if ctx.inverse:
            of_norm.div_(norm)
        else:
            of_norm.mul_(norm).mul_(norm).mul_(norm).neg_()
        of_gamma = (of_norm.t() @ (x * x)).mul_(0.5)
        of_beta = of_norm.sum(0).mul_(0.5)
        return torch.mm(of_norm, gamma).mul_(x).addcmul_(gradient, norm), of_gamma, of_beta, None


class QuickGDN(GDN):
    """GDN in one pass over memory instead of five, in float32 also where a gradient is asked for."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        if x.device.type != "cpu" or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        if torch.is_grad_enabled():
            if x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
                return super().forward(x)
            gamma, beta = self.gamma_reparam(self.gamma), self.beta_reparam(self.beta)
            rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
            out = _Normalized.apply(rows, gamma, beta, self.inverse)
            return out.reshape(x.shape[0], *x.shape[2:], -1).permute(0, 3, 1, 2)  # pyright: ignore
        with torch.autocast("cpu", enabled=False):
            beta = self.beta_reparam(self.beta)
            gamma = self.gamma_reparam(self.gamma).t().contiguous()
            pixels = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
            out = torch.empty_like(pixels)
            for block, result in zip(pixels.split(_BLOCK), out.split(_BLOCK), strict=True):
                values = block.float()
                norm = torch.addmm(beta, values * values, gamma)
                result.copy_(values.mul(norm.sqrt_() if self.inverse else norm.rsqrt_()))
        return out.reshape(x.shape[0], *x.shape[2:], -1).permute(0, 3, 1, 2)


class QuickDeconvolution(nn.ConvTranspose2d):
    """A 5×5 transposed convolution of stride 2 as a 3×3 convolution to the four sub-pixels of each input pixel."""

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """(B, C, H, W) -> (B, C', 2H, 2W)."""
        if torch.is_grad_enabled() or output_size is not None:
            return super().forward(input, output_size)
        # Output pixel 2i + a sums taps k = a + 2 - 2j of input pixels i + j, j = -1, 0, 1: F.pad gives the sixth tap.
        taps = F.pad(self.weight.transpose(0, 1).flip(2, 3), (0, 1, 0, 1))  # (C', C, 6, 6), tap 4 - k at k
        kernels = taps.unflatten(2, (3, 2)).unflatten(4, (3, 2))  # a = 0 takes the even taps, a = 1 the odd ones
        kernels = kernels.permute(0, 3, 5, 1, 2, 4)
        kernels = torch.stack([kernels[:, 0], kernels[:, 1].roll(1, dims=3)], dim=1)
        kernels = torch.stack([kernels[:, :, 0], kernels[:, :, 1].roll(1, dims=4)], dim=2)
        bias = None if self.bias is None else self.bias.repeat_interleave(4)
        return F.pixel_shuffle(F.conv2d(input, kernels.flatten(0, 2), bias, padding=1), 2)


class QuickPointwise(nn.Conv2d):
    """A strided 1×1 convolution as a plain one of every s-th pixel.

    oneDNN's kernel for the gradient of such a convolution's weight (`jit_1x1:avx2` with a stride, where the channels
    do not fill a vector register, such as an image's 3) writes out of bounds in channels_last.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ⌈H/s⌉, ⌈W/s⌉)."""
        rows, columns = self.stride
        return F.conv2d(input[:, :, ::rows, ::columns], self.weight, self.bias, groups=self.groups)


class QuickResidualBlock(ResidualBlock):
    """Adds in place, so that no memory need be fetched from the system for the sum."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        if torch.is_grad_enabled():
            return super().forward(x)
        out = self.leaky_relu(self.conv2(self.leaky_relu(self.conv1(x))))
        return out.add_(x if self.skip is None else self.skip(x))


class QuickBottleneck(ResidualBottleneckBlock):
    """Adds in place."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        if torch.is_grad_enabled():
            return super().forward(x)
        return self.conv3(self.relu2(self.conv2(self.relu1(self.conv1(x))))).add_(self.skip(x))


class QuickAttention(AttentionBlock):
    """Gates and adds in place."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        if torch.is_grad_enabled():
            return super().forward(x)
        return self.conv_b(x).sigmoid_().mul_(self.conv_a(x)).add_(x)


_QUICK: dict[type[nn.Module], type[nn.Module]] = {
    GDN: QuickGDN,
    ResidualBlock: QuickResidualBlock,
    ResidualBottleneckBlock: QuickBottleneck,
    AttentionBlock: QuickAttention,
}
_Layer = TypeVar("_Layer", bound=nn.Module)


def _turned(module: nn.Module, cls: type[_Layer]) -> _Layer:
    """`module` as an object of a descendant of its class, with its very parameters."""
    turned = cls.__new__(cls)
    turned.__dict__.update(module.__dict__)
    return turned


def _few_channels(module: nn.Module) -> bool:
    return type(module) is nn.ConvTranspose2d and (
        module.out_channels <= _FEW_CHANNELS
        and module.kernel_size == (5, 5)
        and module.stride == (2, 2)
        and module.padding == (2, 2)
        and module.output_padding == (1, 1)
        and module.groups == 1
        and module.dilation == (1, 1)
    )


def _strided_pointwise(module: nn.Module) -> bool:
    return type(module) is nn.Conv2d and (
        module.kernel_size == (1, 1) and module.stride != (1, 1) and module.padding == (0, 0)
    )


def without_strided_pointwise(network: nn.Module) -> None:
    """Replace a network's strided 1×1 convolutions, in place, by equal ones that are safe in channels_last."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if _strided_pointwise(child):
                setattr(parent, name, _turned(child, QuickPointwise))


def quicken(network: nn.Module) -> None:
    """Replace the layers of a network that have a faster form here; parameters and names stay."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in _QUICK:
                setattr(parent, name, _turned(child, _QUICK[type(child)]))
            elif _few_channels(child):
                setattr(parent, name, _turned(child, QuickDeconvolution))
