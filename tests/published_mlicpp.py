"""State dicts with the names and shapes of the MLIC++ authors' code, at a small size."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

N, M, SLICES, HEADS = 4, 16, 2, 2
# Whatever the size, the authors' inner widths are those of slices of 32 channels; ours are multiples of a slice's.
C = M // SLICES


def layers() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and weight shapes of the authors' layers with a bias, at these sizes."""
    for k, (before, after) in enumerate([(3, N), (N, N), (N, N), (N, N), (N, N), (N, N)]):
        yield f"g_a.analysis_transform.{k}.conv1", (after, before, 3, 3)
        yield f"g_a.analysis_transform.{k}.conv2", (after, after, 3, 3)
        if k % 2 == 0:
            yield f"g_a.analysis_transform.{k}.skip", (after, before, 1, 1)
    yield "g_a.analysis_transform.6", (M, N, 3, 3)
    for k, width in enumerate([M, N, N, N, N, N, N]):
        if k % 2 == 0:
            yield f"g_s.synthesis_transform.{k}.conv1", (width, width, 3, 3)
            yield f"g_s.synthesis_transform.{k}.conv2", (width, width, 3, 3)
        else:
            before = M if k == 1 else N
            yield f"g_s.synthesis_transform.{k}.subpel_conv.0", (4 * N, before, 3, 3)
            yield f"g_s.synthesis_transform.{k}.conv", (N, N, 3, 3)
            yield f"g_s.synthesis_transform.{k}.upsample.0", (4 * N, before, 3, 3)
    yield "g_s.synthesis_transform.7.0", (12, N, 3, 3)
    for k, before in ((0, M), (2, N), (4, N), (6, N), (8, N)):
        yield f"h_a.reduction.{k}", (N, before, 3, 3)
    yield "h_s.increase.0", (M, N, 3, 3)
    yield "h_s.increase.2.0", (4 * M, M, 3, 3)
    yield "h_s.increase.4", (3 * M // 2, M, 3, 3)
    yield "h_s.increase.6.0", (6 * M, 3 * M // 2, 3, 3)
    yield "h_s.increase.8", (2 * M, 3 * M // 2, 3, 3)
    for i in range(SLICES):
        yield f"local_context.{i}.qkv_proj", (3 * C, C)
        yield f"local_context.{i}.fusion", (2 * C, C, 5, 5)
        yield f"local_context.{i}.proj", (2 * C, 2 * C)
        yield f"local_context.{i}.mlp.fc1", (4 * C, 2 * C)
        yield f"local_context.{i}.mlp.fc2", (2 * C, 4 * C)
        yield f"local_context.{i}.norm1", (C,)
        yield f"local_context.{i}.norm2", (2 * C,)
        shared, own = (6 * C, 4 * C) if i else (0, 2 * C)
        for network, width in (("anchor", 2 * M + shared), ("nonanchor", 2 * M + shared + own)):
            for k, (before, after) in enumerate([(width, 10 * C), (10 * C, 8 * C), (8 * C, 4 * C), (4 * C, 2 * C)]):
                yield f"entropy_parameters_{network}.{i}.fusion.{2 * k}", (after, before, 1, 1)
            for k, (before, after) in enumerate([(M + (i + 1) * C, 7 * C), (7 * C, 4 * C), (4 * C, C)]):
                yield f"lrp_{network}.{i}.lrp_transform.{2 * k}", (after, before, 3, 3)
        if not i:
            continue
        for k, (before, after) in enumerate([(i * C, 6 * C), (6 * C, 4 * C), (4 * C, 4 * C)]):
            yield f"channel_context.{i}.fushion.{2 * k}", (after, before, 3, 3)
        for context, width, inner in (("inter", i * C, 3 * C), ("intra", C, 2 * C)):
            for kind in ("keys", "queries", "values"):
                yield f"global_{context}_context.{i}.{kind}.0", (width, width, 1, 1)
                yield f"global_{context}_context.{i}.{kind}.1", (width, 1, 3, 3)
            yield f"global_{context}_context.{i}.reprojection", (inner, width, 5, 5)
            yield f"global_{context}_context.{i}.mlp.0", (4 * C, inner, 1, 1)
            yield f"global_{context}_context.{i}.mlp.2", (4 * C, 1, 3, 3)
            yield f"global_{context}_context.{i}.mlp.4", (2 * C, 4 * C, 1, 1)
        yield f"global_inter_context.{i}.skip", (2 * C, 3 * C, 1, 1)


def state_dict(old_names: bool = False) -> dict[str, Tensor]:
    """A state dict as the authors' code saves it; every number in it is another one."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in layers():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for transform, name, blocks in (
        ("g_a.analysis_transform", "gdn", (0, 2, 4)),
        ("g_s.synthesis_transform", "igdn", (1, 3, 5)),
    ):
        for k in blocks:
            shapes |= {f"{transform}.{k}.{name}.beta": (N,), f"{transform}.{k}.{name}.gamma": (N, N)}
            shapes |= {f"{transform}.{k}.{name}.beta_reparam.pedestal": (1,)}
    for i in range(SLICES):
        shapes[f"local_context.{i}.relative_position_table"] = (81, HEADS)
        shapes[f"local_context.{i}.relative_position_index"] = (25, 25)
    widths = (1, 3, 3, 3, 3, 1)
    for k in range(5):
        names = ("_matrix", "_bias", "_factor") if old_names else ("matrices.", "biases.", "factors.")
        shapes[f"entropy_bottleneck.{names[0]}{k}"] = (N, widths[k + 1], widths[k])
        shapes[f"entropy_bottleneck.{names[1]}{k}"] = (N, widths[k + 1], 1)
        if k < 4:
            shapes[f"entropy_bottleneck.{names[2]}{k}"] = (N, widths[k + 1], 1)
    shapes |= {"entropy_bottleneck.quantiles": (N, 1, 3), "entropy_bottleneck._quantized_cdf": (N, 9)}
    shapes |= {"gaussian_conditional._offset": (64,), "gaussian_conditional.scale_table": (64,)}
    start, state = 0, {}
    for name, shape in shapes.items():
        count = int(torch.tensor(shape).prod())
        state[name] = torch.arange(start, start + count, dtype=torch.float64).reshape(shape)
        start += count
    return state
