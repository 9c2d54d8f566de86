"""Start of the command line: signals, messages, and the exit code that a command ends with."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
import warnings
from typing import Any

from rich.logging import RichHandler
from rich.markup import escape

from lingraft.cli.commands import app
from lingraft.cli.console import console, speak
from lingraft.errors import LingraftError, Stopped

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)


def main() -> None:
    """Run a command; ends with 0 done, 1 our fault, 2 the input was wrong, 3 the machine stopped it."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_log_handler()])
    speak()
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _stop)
    sys.unraisablehook = _unraisable
    try:
        app(prog_name="lingraft")
    except Stopped as stopped:
        _fail(f"stopped by {stopped}; start the same command again to go on", 3)
    except LingraftError as error:
        _fail(error, error.exit_code)
    except MemoryError as error:
        _fail(_out_of_memory(error), 3)
    except OSError as error:
        if error.errno in _NOT_ALLOWED:
            _fail(f"{error.filename}: {error.strerror}; choose another place, or mend its permissions", 2)
        if error.errno not in _NO_ROOM:
            raise
        _fail(_disk_full(error), 3)
    except Exception as error:  # torch and safetensors have their own words for both
        if any(words in str(error) for words in ("No space left on device", "inline_container", "Disk quota exceeded")):
            _fail(_disk_full(error), 3)
        if any(words in str(error) for words in ("out of memory", "can't allocate memory")):
            _fail(_out_of_memory(error), 3)
        raise


def _log_handler() -> logging.Handler:
    if console.is_terminal:
        return RichHandler(console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    return handler


def _stop(signum: int, frame: Any) -> None:
    raise Stopped(signal.Signals(signum).name)


def _unraisable(dropped: sys.UnraisableHookArgs) -> None:
    """A stop that came during a finaliser, where Python drops what is raised, comes again a moment later."""
    if isinstance(dropped.exc_value, Stopped):
        again = signal.Signals[str(dropped.exc_value)]
        threading.Timer(0.05, os.kill, (os.getpid(), again)).start()
    else:
        sys.__unraisablehook__(dropped)


def _disk_full(error: BaseException) -> str:
    return f"the disk is full ({str(error).splitlines()[0]}); make room and start the same command again"


def _out_of_memory(error: BaseException) -> str:
    return (
        f"out of memory ({str(error).splitlines()[0] if str(error) else 'on the host'}); lower "
        "training.per_device_train_batch_size or max_length, or set training.gradient_checkpointing=true, "
        "with a new --out"
    )


def _fail(message: Any, code: int) -> None:
    console.print(f"[bold]error:[/] {escape(str(message))}", soft_wrap=True, highlight=False)
    sys.exit(code)
