"""A progress bar: tqdm's where it is installed, else a line of our own."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WIDTH = 30


class ProgressBar:
    """Shows on stderr how far a batch is, by the provider's count."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Any = None
        self._wrote = False

    def __enter__(self) -> ProgressBar:
        try:
            from tqdm import tqdm
        except ImportError:
            return self
        self._bar = tqdm(desc=self._title, unit="row", total=None, file=sys.stderr)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._wrote:
            print(file=sys.stderr)

    def update(self, state: str, total: int, done: int) -> None:
        """After a look; `total` is 0 until the provider has counted the rows."""
        if self._bar is not None:
            self._bar.total = total or None
            self._bar.set_postfix_str(state, refresh=False)
            self._bar.update(done - self._bar.n)
            return
        filled = _WIDTH * min(done, total) // total if total else 0
        bar = "#" * filled + "." * (_WIDTH - filled)
        print(f"\r{self._title} [{bar}] {done}/{total or '?'} {state:<12}", end="", file=sys.stderr, flush=True)
        self._wrote = True
