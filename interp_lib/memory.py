"""Running out of memory ends as one sentence that names what to reduce."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# The allocators of the CPU, of MPS and of CUDA's libraries raise a plain RuntimeError
TEXTS = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device, or the computer itself, has run out of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in TEXTS)


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Raise MemoryError with `advice` where a device runs out of memory; a decorator as well."""
    try:
        yield
    except RuntimeError as error:  # a MemoryError passes as it is: an inner function has given its own advice
        if not is_out_of_memory(error):
            raise
        raise MemoryError(f"The device ran out of memory: {advice}.") from None
