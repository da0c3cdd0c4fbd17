"""Ctrl-C, preemption and a closed terminal: noted while the engine runs, acted on between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from kerascnn.runs.events import EndState

STOP = "stop"
# SIGBREAK is Windows's: Ctrl-Break.
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 75, "SIGUSR1": 75, "SIGHUP": 75, "SIGBREAK": 75, STOP: 0}


class Interruption(BaseException):
    """A signal, or a user's ``stop``, asked the run to end between two steps."""

    def __init__(self, name: str) -> None:
        super().__init__("it was asked to stop" if name == STOP else f"{name} came")
        self.state: EndState = "stopped" if name == STOP else "interrupted"
        self.exit_code = EXIT_CODES[name]


class Signals:
    """Inside ``with``, SIGINT, SIGTERM, SIGUSR1 and SIGHUP are noted in ``arrived``; on Windows SIGBREAK is, too.

    Before :meth:`wait_for_step` a signal ends what is under way at once: there is nothing to save yet. Off the main
    thread, where Python can't handle signals, nothing is installed.
    """

    def __init__(self) -> None:
        self.arrived: str | None = None
        self._at_once = True
        self._old: dict[int, object] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for name in EXIT_CODES:
                number = getattr(signal, name, None)
                if number is not None and not _under_nohup(name, number):
                    self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)  # type: ignore[arg-type]

    def wait_for_step(self) -> None:
        """From now on a signal waits for the engine to ask."""
        self._at_once = False

    def raise_if_arrived(self) -> None:
        """Called between two steps.

        Raises:
            Interruption: a signal has come.
        """
        if self.arrived:
            raise Interruption(self.arrived)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.arrived is None:
            self.arrived = signal.Signals(number).name
            if self._at_once:
                raise Interruption(self.arrived)


def _under_nohup(name: str, number: int) -> bool:
    """Whether this is the signal of a closed terminal, and the run was started to outlive that."""
    return name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN
