"""Several processes that train one network, through torch's own DistributedDataParallel."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from robustbench_med.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Which of the processes of a training this one is.

    Attributes:
        rank: Counted from 0; the first writes.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's items."""
        return items[self.rank :: self.count]

    def total(self, value: float) -> float:
        """Sum of what each process has, the same for each."""
        if self.count == 1:
            return value
        summed = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(summed)
        return summed.item()

    def gathered(self, thing: T) -> list[T]:
        """What each process has, in order."""
        if self.count == 1:
            return [thing]
        found: list[T] = [thing] * self.count
        distributed.all_gather_object(found, thing)
        return found

    def spread(self, module: nn.Module) -> nn.Module:
        """Let backward passes through the module leave the processes' mean gradients."""
        if self.count == 1:
            return module
        # A loss need not use every parameter for every batch.
        return DistributedDataParallel(module, find_unused_parameters=True)


def apart(module: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """Leave gradients where they are until the last backward pass of a step."""
    if isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()
    return nullcontext()


def here() -> Processes:
    """The processes that `joined` joined, or this one alone."""
    if not distributed.is_available() or not distributed.is_initialized():
        return Processes()
    return Processes(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that `torchrun` started, if it did, and yield this one's device.

    Raises:
        InputError: If there are fewer CUDA devices than processes on this machine.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        yield device
        return
    if device.startswith("cuda"):
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise InputError(
                f"train: process {local} on this machine has no CUDA device of its own, torch "
                f"finds {torch.cuda.device_count()}; start fewer processes, or use device cpu"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    # Objects and counts go through gloo, gradients on a device through nccl.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device != "cpu" else "gloo")
    yield device
    # Not after an error: others may wait for this process, and taking leave of them may hang.
    distributed.destroy_process_group()
