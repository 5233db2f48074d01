"""A simulated GPU: tensors that report cuda:0, compute on the CPU, and refuse what a real device refuses.

Within `SimulatedDevice` every operation of torch passes through `__torch_dispatch__`, below autograd and below the
composite operations, where a real device would launch its kernels. There an operation that mixes devices raises, a
generator of another device raises, and what makes the host wait for the device is counted.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

DEVICE = torch.device("cuda:0")
# Operations of aten whose result is a number, or has a shape, that only the device knows
WAITING = ["_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "unique_dim", "bincount"]
WAITING += ["repeat_interleave"]  # of a tensor of repetitions
INDEXING, COPYING = ["index", "index_put", "index_put_", "_index_put_impl_"], ["copy_", "copy", "_to_copy"]


class Backend(torch._C._acc.PrivateUse1Hooks):
    """The device as torch's C++ knows it, which without CUDA refuses gradients on that one: an empty backend."""

    active = False

    def is_available(self) -> bool:  # outside of the block nobody shall find it
        return Backend.active

    def has_primary_context(self, index: int) -> bool:
        return Backend.active

    def is_built(self) -> bool:
        return True


# What torch asks of `torch.simulated`, and here of `torch.cuda`, outside of operations
MODULE = SimpleNamespace(
    is_available=lambda: Backend.active,
    is_initialized=lambda: Backend.active,
    device_count=lambda: int(Backend.active),
    current_device=lambda: 0,
    _is_in_bad_fork=lambda: False,
    manual_seed_all=lambda seed: None,
    _lazy_init=lambda: None,
    get_rng_state=lambda device=None: torch.zeros(1, dtype=torch.uint8),
    set_rng_state=lambda state, device=None: None,
    mem_get_info=lambda device=None: (2**33, 2**34),
    memory_reserved=lambda device=None: 0,
    memory_allocated=lambda device=None: 0,
)
_setup_privateuseone_for_python_backend("simulated", MODULE, Backend())


class OnDevice(torch.Tensor):
    """A tensor of the simulated device; `inner` has its values, on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnDevice":
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, device="simulated:0", **layout)

    def __init__(self, inner: Tensor):
        self.inner = inner

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnDevice({list(self.shape)}, {self.dtype})"

    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)

    @property
    def data(self) -> Tensor:
        return torch.Tensor.data.__get__(self)

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, OnDevice):
            raise RuntimeError("the data of a tensor on the device set to a tensor of the host")
        torch.Tensor.data.__set__(self, value)
        self.inner = value.inner

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        device, dtype, non_blocking, layout = torch._C._nn._parse_to(*args, **kwargs)
        if device == DEVICE:  # for torch's own `to` this would be another device
            device = None
        return super().to(device=device, dtype=dtype, non_blocking=non_blocking, memory_format=layout)

    def tolist(self) -> Any:  # torch refuses subclasses here
        return self.cpu().tolist()

    # A wrapper in torch's sense, so that `Module.to` exchanges parameters whole
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], context: None, size: Any, stride: Any) -> "OnDevice":
        return OnDevice(inner["inner"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on a tensor of the simulated device, which has been left")


class SimulatedDevice(TorchDispatchMode):
    """Run torch on the simulated device within the block.

    synchronisations: how often the host waited for the device, by operation. uploads: copies from the host.
    """

    def __init__(self) -> None:
        super().__init__()
        self.synchronisations: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.prim.device.default:
            return DEVICE if isinstance(args[0], OnDevice) else args[0].device
        tensors = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)]
        there = self._check(func, args, kwargs, tensors)
        if func is torch.ops.aten._fused_sdp_choice.default and there:
            return 0  # plain attention, since the CPU has none of a GPU's fused kernels
        kwargs |= dict.fromkeys(kwargs.keys() & {"pin_memory"}, False)  # there is no page of the host to pin
        if there and "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        wrappers = {id(x.inner): x for x in tensors if isinstance(x, OnDevice)}
        plain_args, plain_kwargs = tree_map_only(OnDevice, lambda x: x.inner, (args, kwargs))
        result = func(*plain_args, **plain_kwargs)
        if not there:
            return result
        return tree_map_only(Tensor, lambda x: wrappers[id(x)] if id(x) in wrappers else OnDevice(x), result)

    def _check(self, func: Any, args: Any, kwargs: dict[str, Any], tensors: list[Tensor]) -> bool:
        """Return whether the result is on the device; count waiting and uploads, raise for what a device refuses."""
        there = [x for x in tensors if isinstance(x, OnDevice)]
        here = [x for x in tensors if not isinstance(x, OnDevice)]
        name, given = str(func).split(".")[1], kwargs.get("device")
        on_device = bool(there) if given is None else torch.device(given).type in ("cuda", "simulated")
        if name in COPYING:
            source = args[0] if name == "_to_copy" else args[1]
            if name != "_to_copy":
                on_device = isinstance(args[0], OnDevice)
            if isinstance(source, OnDevice) != on_device:
                (self.uploads if on_device else self.synchronisations)[name] += 1
            return on_device
        if name in INDEXING and isinstance(args[0], OnDevice):
            indices = [x for x in args[1] if x is not None]
            self.uploads[name] += sum(not isinstance(x, OnDevice) for x in indices)
            if any(x.dtype in (torch.bool, torch.uint8) for x in indices):
                self.synchronisations[name] += 1
            here = [x for x in here if not any(x is index for index in indices)]  # a real device copies them
        if there and any(x.ndim for x in here):
            shapes = [(list(x.shape), x.device.type) for x in tensors]
            raise RuntimeError(f"{name} mixes devices: {shapes}")
        if there and name in WAITING:
            self.synchronisations[name] += 1
        generators = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Generator)]
        if generators and on_device:
            raise RuntimeError(f"{name} on {DEVICE} has a generator of {generators[0].device}")
        return on_device


@contextmanager
def simulated_device() -> Iterator[SimulatedDevice]:
    """Enter a simulated device, with what of torch.cuda is asked outside of operations."""
    names = ["_lazy_init", "get_rng_state", "set_rng_state", "mem_get_info", "memory_reserved", "memory_allocated"]
    before = {name: getattr(torch.cuda, name) for name in names}
    swapping = torch.__future__.get_swap_module_params_on_conversion()
    try:
        for name in names:
            setattr(torch.cuda, name, getattr(MODULE, name))
        torch.__future__.set_swap_module_params_on_conversion(True)
        Backend.active = True
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) copies through the mode
        with SimulatedDevice() as device:
            yield device
    finally:
        Backend.active = False
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_swap_module_params_on_conversion(swapping)
        for name, function in before.items():
            setattr(torch.cuda, name, function)
