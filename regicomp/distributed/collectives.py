"""Sums over the processes of a run; with one process, nothing happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def world() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them, by which work is shared out; the one that writes is `environment.is_first`."""
    return dist.get_rank() if world() > 1 else 0


def total(value: Tensor) -> Tensor:
    """Sum of `value` over all processes; waits for no device. All processes must call it."""
    if world() > 1:
        value = value.detach().clone()
        dist.all_reduce(value)
    return value


def norm(value: Tensor) -> Tensor:
    """Euclidean norm of a tensor whose pieces the processes hold, a float32 scalar."""
    own = torch.linalg.vector_norm(value.float())
    return total(own * own).sqrt() if world() > 1 else own


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of two tensors whose pieces the processes hold, a float32 scalar."""
    return total(torch.sum(a.float() * b.float()))


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace each gradient by its mean over the processes, for backward passes that DDP does not follow."""
    if world() == 1:
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = total(torch.cat([g.reshape(-1) for g in grads])) / world()
    for grad, mean in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
        grad.copy_(mean.view_as(grad))


def gather(value: Any) -> list[Any]:
    """The plain Python `value` of every process, in the order of their ranks."""
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, value)
    return found


def leave() -> None:
    """End this process's part in the group, so that the next run of a sweep can form its own."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
