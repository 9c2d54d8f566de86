"""From files to blocks of tokens: read, tokenize, mix, pack."""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
"""Positions or counts, of shape (documents,)."""
