"""The embedded sandbox: a loopback server that speaks the providers' wire formats. No key, no network, no cost."""

from __future__ import annotations

from llmbackend import _core
from llmbackend.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from types import TracebackType
    from typing import NoReturn

# For each provider that is served: the variables that its SDK and this package read, key first.
_VARIABLES = {
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    "gemini": ("GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
}
_KEY = "sandbox"


class Sandbox:
    """A running sandbox; made by :func:`sandbox`. Leaving its ``with`` block, or :meth:`close`, stops it."""

    def __init__(self, core: _core.Sandbox) -> None:
        import weakref

        self._core = core
        # Also when the interpreter ends: the temporary folder must not outlive it.
        weakref.finalize(self, core.close)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Sandbox is a server in this process, and cannot be pickled or copied; pass box.options(provider), which "
            "reach it from other processes too"
        )

    def url(self, provider: str) -> str:
        """The base URL of a provider, as its SDK wants it.

        Raises ConfigurationError for a provider that the sandbox does not serve.
        """
        try:
            return self._core.url(provider)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None

    def options(self, provider: str) -> dict[str, str]:
        """``api_key`` and ``base_url``, for ``llmbackend.client(provider, model, **box.options(provider))``."""
        return {"api_key": _KEY, "base_url": self.url(provider)}

    def environment(self) -> dict[str, str]:
        """The environment variables that point this package and the official SDKs to the sandbox."""
        found = {}
        for provider, (key, base_url) in _VARIABLES.items():
            found[key] = _KEY
            found[base_url] = self.url(provider)
        return found

    def fault(self, spec: str) -> None:
        """Misbehave from now on: ``NAME[:TIMES][@METHOD /path-part]``, such as ``"server_error:2@POST /v1/batches"``.

        Raises ConfigurationError for a spec that cannot be read; it lists the known names.
        """
        _check("a fault", spec, (str,), "a str")
        try:
            self._core.fault(spec)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None

    def clear_faults(self) -> None:
        """Behave again. Jobs that already caught a fault keep it."""
        self._core.clear_faults()

    def requests(self) -> list[tuple[str, str, int]]:
        """(method, path, status) of the newest 100,000 requests, oldest first; status 0 where no reply was sent."""
        return self._core.requests()

    def close(self) -> None:
        """Stop the server and remove its temporary folder. A second call does nothing."""
        self._core.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def sandbox(
    *,
    speed: float = 600.0,
    faults: Iterable[str] = (),
    port: int = 0,
    host: str = "127.0.0.1",
    directory: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Sandbox:
    """Start a sandbox in this process and return once it listens.

    speed: virtual seconds per real second; at 600 a batch job takes about 0.15 s.
    faults: ways to misbehave, each ``NAME[:TIMES][@METHOD /path-part]``.
    port: 0 takes a free one.
    host: the IP address to listen on; only this machine reaches the default.
    directory: folder for uploads and results, kept at the end. None: a temporary folder, removed at the end.
    seed: decides the order of result lines.

    Raises ConfigurationError for an argument that is wrong, OSError if the port is taken or the folder unusable.
    """
    specs = _specs(faults)
    _check("speed", speed, (int, float), "a number")
    _check("host", host, (str,), "a str")
    _check("directory", directory, (str, type(None)), "a path")
    _check_range("port", port, 65_535)
    _check_range("seed", seed, 2**64 - 1)
    try:
        return Sandbox(_core.Sandbox(host, port, directory, speed, specs, seed))
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(f"sandbox: {error}") from None
    except OSError as error:
        place = f"{host}:{port}" if directory is None else f"{host}:{port} in {directory}"
        raise type(error)(f"the sandbox cannot start at {place}: {error}") from None


def _specs(faults: Iterable[str]) -> list[str]:
    if isinstance(faults, str):
        raise ConfigurationError(f"faults must be a list of fault specs, not the str {faults!r}: write [{faults!r}]")
    try:
        specs = list(faults)
    except TypeError:
        raise ConfigurationError(f"faults must be a list of fault specs, not {faults!r}") from None
    for spec in specs:
        _check("each of faults", spec, (str,), "a str")
    return specs


def _check(name: str, value: object, kinds: tuple[type, ...], words: str) -> None:
    is_path = words == "a path" and hasattr(value, "__fspath__")
    if isinstance(value, bool) or not (isinstance(value, kinds) or is_path):
        raise ConfigurationError(f"{name} must be {words}, not {value!r}")


def _check_range(name: str, value: int, most: int) -> None:
    _check(name, value, (int,), f"a whole number from 0 to {most}")
    if not 0 <= value <= most:
        raise ConfigurationError(f"{name} must be a whole number from 0 to {most}, not {value!r}")
