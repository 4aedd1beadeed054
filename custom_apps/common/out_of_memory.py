"""Errors that mean that memory ran out, whoever raises them, and what helps."""

from __future__ import annotations

SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "unable to allocate")
ADVICE = (
    "lower batch_size (of a plan: plan_overrides), patch_size, sw_batch_size or clip_batch_size, or num_workers; or "
    "set amp: true, checkpointing: true, or, for the sliding window, sum_dtype: float16, sum_device: cpu"
)


def out_of_memory(error: BaseException) -> str | None:
    """What to tell somebody whose run ended for lack of memory; None for other errors.

    Args:
        error: of PyTorch (host or GPU), of NumPy or of Python, or one that was caused by such an error.
    """
    cause: BaseException | None = error
    while cause is not None:
        # By name, because the class is PyTorch's, which commands that never compute do not import.
        named = isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"
        if named or (isinstance(cause, RuntimeError) and any(sign in str(cause).lower() for sign in SIGNS)):
            lines = str(cause).strip().splitlines()
            return f"out of memory ({lines[0] if lines else type(cause).__name__}); {ADVICE}"
        cause = cause.__cause__ or cause.__context__
    return None
