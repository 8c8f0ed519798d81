"""What a long transfer or reading shows: a bar in a terminal, now and then a line in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from tqdm import tqdm


class Progress:
    """Reports transfers on `stream` (stderr unless given).

    A terminal gets one bar per transfer. Anything else, such as the log of a job, gets a plain
    line at most every `every` seconds.
    """

    def __init__(self, stream: TextIO | None = None, every: float = 10.0) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.every = every
        self._bar: tqdm | None = None
        self._name = ""
        self._last = (0.0, 0)  # when the last line was printed, and at how many bytes

    def say(self, line: str) -> None:
        """Print one line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(line, file=self.stream)
        else:
            print(line, file=self.stream, flush=True)

    def update(self, name: str, done: int, total: int | None, unit: str = "B") -> None:
        """`done` of `total` bytes (or what `unit` says) of `name` are there."""
        if name != self._name:
            self.close()
            self._name, self._last = name, (time.monotonic(), done)
            if self.stream.isatty():
                self._bar = tqdm(
                    desc=name,
                    initial=done,
                    total=total,
                    unit=unit,
                    unit_scale=unit == "B",
                    file=self.stream,
                )
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
            return
        then, before = self._last
        now = time.monotonic()
        if now - then >= self.every:
            self._last = (now, done)
            of = f" of {_amount(total, unit)} ({100 * done // total} %)" if total else ""
            rate = max(0, done - before) / (now - then)
            self.say(f"{name}: {_amount(done, unit)}{of}, {_amount(rate, unit)}/s")

    def close(self) -> None:
        """The transfer ended, well or badly: take its bar away."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self._name = None, ""


def _amount(count: float, unit: str) -> str:
    return f"{count / 1e6:.1f} MB" if unit == "B" else f"{count:.0f} {unit}"
