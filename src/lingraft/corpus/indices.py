"""Arrays of whole numbers: rows, digests, counts of tokens."""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
