"""Convert weights between the dtypes of files and float32.

numpy has no bfloat16. It is the upper half of a float32, so integer operations convert both ways.
torch could do it too, but importing torch takes longer than merging a gigabyte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

STORAGE: Mapping[str, np.dtype[Any]] = {
    "BF16": np.dtype(np.uint16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
}
"""safetensors' name of a dtype -> the numpy type that holds its bits."""

DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
"""torch's name of a dtype -> safetensors' name."""

TORCH_NAMES = {dtype: name for name, dtype in DTYPES.items()}

Bits = NDArray[Any]
"""Weights as they are stored: one of the types in `STORAGE`."""
Floats = NDArray[np.float32]

LARGEST = {"BF16": 3.3895313892515355e38, "F16": 65504.0, "F32": float(np.finfo(np.float32).max)}
_BF16_EXPONENT = np.uint16(0x7F80)


def widen(bits: Bits, to: Floats) -> Floats:
    """Convert stored weights to float32, exactly; written to `to`, which has the same shape."""
    if bits.dtype != np.uint16:
        to[...] = bits
        return to
    whole = to.view(np.uint32)
    whole[...] = bits
    whole <<= 16
    return to


def narrow(numbers: Floats, dtype: str, to: Bits, scratch: NDArray[np.uint32]) -> Bits:
    """Round float32 to a dtype, to the nearest, ties to even; `to` and `scratch` have the same shape.

    Numbers must be finite and at most `LARGEST[dtype]`.
    """
    if dtype != "BF16":
        to[...] = numbers
        return to
    whole = numbers.view(np.uint32)
    np.right_shift(whole, 16, out=scratch)
    scratch &= 1  # the last bit that stays: a tie goes to the even one
    scratch += np.uint32(0x7FFF)
    scratch += whole
    scratch >>= 16
    to[...] = scratch
    return to


def fits(numbers: Floats, dtype: str) -> bool:
    """Whether all numbers are finite and within the range of a dtype."""
    return bool(max(numbers.max(), -numbers.min()) <= LARGEST[dtype]) if numbers.size else True


def finite(bits: Bits) -> bool:
    """Whether all stored weights are finite."""
    if bits.dtype == np.uint16:
        return not bool(((bits & _BF16_EXPONENT) == _BF16_EXPONENT).any())
    return bool(np.isfinite(bits).all())
