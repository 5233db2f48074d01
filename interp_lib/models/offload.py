"""Networks that take turns on a GPU: the one that is called is there, the others wait in the computer's memory."""

from collections.abc import Sequence

import torch
from accelerate import cpu_offload_with_hook
from accelerate.hooks import CpuOffload, add_hook_to_module


def take_turns(networks: Sequence[torch.nn.Module], device: torch.device) -> None:
    """Move the networks to the CPU, and each to `device` when it is called, after the others have left it.

    accelerate chains networks in one order, and ours alternate; so every network gets a hook for each of the others.
    diffusers' autoencoders call their hooks in `encode` and `decode` as well.
    """
    handles = [cpu_offload_with_hook(network, device)[1] for network in networks]
    for network in networks:
        for handle in handles:
            if handle.model is not network:
                add_hook_to_module(network, CpuOffload(device, prev_module_hook=handle), append=True)
