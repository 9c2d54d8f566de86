"""Start of the command line: signals, logging, and the exit code that a command ends with.

Nothing that takes time is imported before the signals are handled, so that Ctrl-C ends a command with 3 at any moment.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from contextlib import suppress
from typing import Any

from lingraft.cli.exit_codes import ending
from lingraft.errors import Interrupted, UserError


def main() -> None:
    """Run a command; ends with 0 success, 1 internal error, 2 invalid input, 3 interrupted or out of resources."""
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _stop)
    sys.unraisablehook = _unraisable
    _stops.clear()
    try:
        _run()
    except SystemExit as end:
        _drop_what_cannot_be_printed()
        if isinstance(end.__context__, BrokenPipeError):  # typer's own end would be 1
            sys.exit(0)
        raise
    except BrokenPipeError:  # who reads standard output, as `head` does, has had enough
        _drop_what_cannot_be_printed()
        sys.exit(0)
    except BaseException as error:
        end_of = ending(_stops[0] if _stops else error)
        if end_of is None:
            raise
        _drop_what_cannot_be_printed()
        _say(end_of.message)
        sys.exit(end_of.code)


def _run() -> None:
    from lingraft.cli.commands import app
    from lingraft.cli.console import speak

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a letter shows its number
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_log_handler()])
    speak()
    for argument in sys.argv[1:]:
        _check_is_text(argument)
    try:
        app(prog_name="lingraft")
    except SystemExit as end:
        if not end.code and sys.stdout is not None:
            sys.stdout.flush()  # a full disk, or a closed pipe, shows here
        raise


def _check_is_text(argument: str) -> None:
    """Refuse bytes that are no UTF-8: neither JSON nor YAML, in which names are recorded, can hold them.

    Raises:
        UserError: shows the argument.
    """
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise UserError(f"{argument!a}: this argument is not UTF-8; rename the file, or set LC_ALL") from None


def _drop_what_cannot_be_printed() -> None:
    """Lead standard output nowhere where it takes no more; else Python, as it ends, would fail once more, with 120."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _log_handler() -> logging.Handler:
    from rich.logging import RichHandler

    from lingraft.cli.console import console

    if console.is_terminal:
        return RichHandler(console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    return handler


_stops: list[Interrupted] = []
"""What was asked of this command: a library may have made another error of it."""


def _stop(signum: int, frame: Any) -> None:
    _stops.append(Interrupted(signal.Signals(signum).name))
    raise _stops[-1]


def _unraisable(dropped: sys.UnraisableHookArgs) -> None:
    """A stop that came during a finaliser, where Python drops what is raised, comes again a moment later."""
    if isinstance(dropped.exc_value, Interrupted):
        again = signal.Signals[str(dropped.exc_value)]
        threading.Timer(0.05, os.kill, (os.getpid(), again)).start()
    else:
        sys.__unraisablehook__(dropped)


def _say(message: str) -> None:
    from rich.markup import escape

    from lingraft.cli.console import console

    readable = message.encode("utf-8", "backslashreplace").decode()
    with suppress(OSError):  # nobody reads it
        console.print(f"[bold]error:[/] {escape(readable)}", soft_wrap=True, highlight=False)
