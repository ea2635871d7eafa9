"""The `llmbackend` command."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_EXTRA = """\
pip install 'llmbackend[cli]' adds tqdm, which draws a better progress bar, and pyarrow, for tables as Parquet
(no command reads or writes those yet). Everything above works without them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status. 2: a mistake in the arguments or an error of the package, in one line."""
    from .errors import LLMBackendError

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal may not know every character of a text
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.verb == "demo":
            from ._demo import run

            return run(options.provider, options.rows)
        if options.verb == "sandbox":
            return _sandbox(options)
    except (LLMBackendError, OSError) as error:
        print(f"llmbackend: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("llmbackend: interrupted", file=sys.stderr)
        return 130
    parser.print_help()
    return 2


def _parser() -> argparse.ArgumentParser:
    import argparse

    from ._core import __version__, provider_names

    parser = argparse.ArgumentParser(
        prog="llmbackend",
        description="Send text to large language models, one prompt or ten million.",
        epilog=_EXTRA,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"llmbackend {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")

    about = "a native batch of the standard library's docstrings, from text to typed values, against the sandbox"
    demo = verbs.add_parser("demo", help=about, description=f"{about[0].upper()}{about[1:]}.")
    demo.add_argument(
        "--provider",
        default="openai",
        choices=provider_names(),
        metavar="NAME",
        help="whose wire format to speak: %(choices)s (%(default)s)",
    )
    demo.add_argument("--rows", type=_rows, metavar="N", help="how many prompts (all that there are; 50,000 at most)")

    about = "a local server that speaks the providers' wire formats: no key, no cost, faults on demand"
    sandbox = verbs.add_parser(
        "sandbox",
        help=about,
        description=f"{about[0].upper()}{about[1:]}. Prints the environment variables that point this package and the "
        "official SDKs to it, and runs until Ctrl-C.",
    )
    sandbox.add_argument("--port", type=int, default=0, help="0 takes a free one (%(default)s)")
    sandbox.add_argument("--host", default="127.0.0.1", help="the IP address to listen on (%(default)s)")
    sandbox.add_argument(
        "--speed", type=float, default=600.0, metavar="X", help="virtual seconds a second, for jobs (%(default)s)"
    )
    sandbox.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="SPEC",
        help="misbehave: NAME[:TIMES][@METHOD /path-part], such as server_error:2@POST /v1/batches; may be repeated",
    )
    sandbox.add_argument("--directory", metavar="DIR", help="where uploads and results are kept (a temporary folder)")
    sandbox.add_argument("--seed", type=int, default=0, help="decides the order of result lines (%(default)s)")
    return parser


def _rows(text: str) -> int:
    import argparse

    if not text.isdecimal() or not 1 <= int(text) <= 50_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 50000")
    return int(text)


def _sandbox(options: argparse.Namespace) -> int:
    import shlex
    import signal
    import threading

    from ._sandbox import sandbox

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with sandbox(
        speed=options.speed,
        faults=options.fault,
        port=options.port,
        host=options.host,
        directory=options.directory,
        seed=options.seed,
    ) as box:
        for name, value in box.environment().items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        print("The sandbox runs until Ctrl-C. Paste the lines above into another shell.", file=sys.stderr)
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
