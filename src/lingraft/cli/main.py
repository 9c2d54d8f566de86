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
        _discard_output()
        if isinstance(end.__context__, BrokenPipeError):  # typer's own end would be 1
            sys.exit(0)
        raise
    except BrokenPipeError:  # the reader of standard output, such as `head`, is done
        _discard_output()
        sys.exit(0)
    except BaseException as error:
        end_of = ending(_stops[0] if _stops else error)
        if end_of is None:
            raise
        _discard_output()
        print_error(end_of.message)
        sys.exit(end_of.code)


def _run() -> None:
    from lingraft.cli.commands import app
    from lingraft.cli.console import speak

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # escape characters that the terminal cannot show
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


def _discard_output() -> None:
    """Redirect broken standard output to /dev/null; else Python would fail again at exit, with code 120."""
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
"""Signals that stopped this command; a library may have turned them into another error."""


def _stop(signum: int, frame: Any) -> None:
    _stops.append(Interrupted(signal.Signals(signum).name))
    raise _stops[-1]


def _unraisable(dropped: sys.UnraisableHookArgs) -> None:
    """Send a signal again that came in a finalizer, where Python drops exceptions."""
    if isinstance(dropped.exc_value, Interrupted):
        again = signal.Signals[str(dropped.exc_value)]
        threading.Timer(0.05, os.kill, (os.getpid(), again)).start()
    else:
        sys.__unraisablehook__(dropped)


def print_error(message: str) -> None:
    from rich.markup import escape

    from lingraft.cli.console import console

    readable = message.encode("utf-8", "backslashreplace").decode()
    with suppress(OSError):  # nobody reads it
        console.print(f"[bold]error:[/] {escape(readable)}", soft_wrap=True, highlight=False)
