"""Networks that take turns on a GPU: the one that is called is there, the others wait in the computer's memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module


class CpuOffload(ModelHook):
    """Before a network of these runs, the others are moved off `device` and it is moved there.

    diffusers' VAEs call the hook in `encode` and `decode` as well.
    """

    def __init__(self, networks: Sequence[torch.nn.Module], device: torch.device):
        self.networks, self.device, self.there = list(networks), device, None
        for network in networks:
            add_hook_to_module(network, self)

    def bring(self, network: torch.nn.Module) -> None:
        if self.there is not network:
            for other in self.networks:
                if other is not network:
                    other.to("cpu")
            network.to(self.device)
            self.there = network

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        self.bring(module)
        return args, kwargs
