"""How far a batch is, on stderr: a bar in a terminal (tqdm's where it is installed, else our own), lines elsewhere."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WIDTH = 24
_TITLE = 20
_FORMAT = "{desc} |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


class ProgressBar:
    """Shows how far a batch is, by the provider's count."""

    def __init__(self, title: str) -> None:
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()
        # A terminal's line is short; a log is where people look for a whole id.
        is_long = self._is_terminal and len(title) > _TITLE
        self._title = f"{title[: _TITLE - 3]}..." if is_long else title
        self._bar: Any = None
        self._shown = ""

    def __enter__(self) -> ProgressBar:
        if self._is_terminal:
            try:
                from tqdm import tqdm
            except ImportError:
                return self
            # dynamic_ncols: the terminal may be resized while a job runs for hours.
            self._bar = tqdm(desc=self._title, bar_format=_FORMAT, dynamic_ncols=True, file=sys.stderr)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._is_terminal and self._shown:
            print(file=sys.stderr)

    def update(self, state: str, total: int, done: int) -> None:
        """After a look; `total` is 0 until the provider has counted the rows."""
        if self._bar is not None:
            self._bar.total = total or None
            self._bar.n = done
            self._bar.set_postfix_str(state, refresh=False)
            self._bar.refresh()
            return
        count = f"{done}/{total or '?'}"
        if self._is_terminal:
            filled = _WIDTH * min(done, total) // total if total else 0
            line = f"{self._title} |{'#' * filled:<{_WIDTH}}| {count} {state}"
            # Blanks over what a longer line has left behind.
            print(f"\r{line:<{len(self._shown)}}", end="", file=sys.stderr, flush=True)
            self._shown = line
        elif state != self._shown and sys.stderr is not None:
            # A log wants news, not every look.
            print(f"{self._title} {count} {state}", file=sys.stderr, flush=True)
            self._shown = state
