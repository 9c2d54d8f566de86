"""Weights as files have them, and as float32 to reckon with.

numpy has no bfloat16; it is the upper half of a float32, so that both ways take a few whole
numbers. torch could do it too, and takes longer to import than a merge of a gigabyte lasts.
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
"""safetensors' name of a dtype -> the numpy type that its bits are kept in."""

DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
"""torch's name of a dtype -> safetensors' name."""

TORCH_NAMES = {dtype: name for name, dtype in DTYPES.items()}

Bits = NDArray[Any]
"""Weights as a file has them: of a type of `STORAGE`."""
Floats = NDArray[np.float32]

LARGEST = {"BF16": 3.3895313892515355e38, "F16": 65504.0, "F32": float(np.finfo(np.float32).max)}
_BF16_EXPONENT = np.uint16(0x7F80)


def widen(bits: Bits, to: Floats) -> Floats:
    """The same numbers as float32, written to `to`, of the same shape; exact."""
    if bits.dtype != np.uint16:
        to[...] = bits
        return to
    whole = to.view(np.uint32)
    whole[...] = bits
    whole <<= 16
    return to


def narrow(numbers: Floats, dtype: str, to: Bits, scratch: NDArray[np.uint32]) -> Bits:
    """Float32 rounded to a dtype, to the nearest, ties to even; `scratch` has the same shape.

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
    """Whether a file's numbers are all finite."""
    if bits.dtype == np.uint16:
        return not bool(((bits & _BF16_EXPONENT) == _BF16_EXPONENT).any())
    return bool(np.isfinite(bits).all())
