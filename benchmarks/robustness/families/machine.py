"""A valid command on a disk that takes no file over a drawn size: the one family that may end with 3.

The runner reads the limit from the file `file-size-limit`.
"""

from __future__ import annotations

import random
from pathlib import Path

from robustness.world import commands

LIMIT = "file-size-limit"
"""A file of the folder that says, in bytes, how large a file may become."""


def machine(draw: random.Random, folder: Path) -> list[str]:
    (folder / LIMIT).write_text(str(int(2 ** draw.uniform(0, 18))))
    return draw.choice([arguments for name, arguments in commands().items() if "--dry-run" not in name])
