"""How the package behaves in a process: the GIL, Ctrl-C, forks, exits, temporary files and memory."""

from __future__ import annotations

import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from scripts import interrupt_when, run, start
from support import POLL, Proxy, Reply, posts

import llmbackend

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks of POSIX")


on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")


class Ticker:
    """Counts on another thread, which it can only do while nobody holds the GIL."""

    def __enter__(self) -> Ticker:
        self.ticks = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._over.is_set():
            self.ticks += 1
            time.sleep(0.001)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_others_work_while_a_call_waits(box: Any) -> None:
    box.fault("stall@POST /v1/responses")
    client = llmbackend.client("openai", "m", **box.options("openai"), timeout=0.5, max_retries=0)
    with Ticker() as ticker:
        before = ticker.ticks
        with pytest.raises(llmbackend.APITimeoutError):
            client.get_response("a")
        assert ticker.ticks - before > 50


def test_others_work_while_a_batch_is_waited_for() -> None:
    with llmbackend.sandbox(speed=1) as slow:
        batch = llmbackend.create_batch(["a"], "openai", "m", **slow.options("openai"))
        with Ticker() as ticker:
            before = ticker.ticks
            with pytest.raises(llmbackend.BatchTimeoutError):
                batch.wait(poll_interval=60, timeout=0.5)
            assert ticker.ticks - before > 50


def test_others_work_while_rows_are_built(box: Any, client: Any) -> None:
    # One id too many: the rows are built, and nothing is sent.
    ids = [f"id-{n}" for n in range(50_001)]
    inputs = ["日本語 " * 400] * 50_000
    with Ticker() as ticker:
        before = ticker.ticks
        with pytest.raises(llmbackend.ConfigurationError, match="at most|50001 ids"):
            client.submit_batch(inputs, batch_options={"custom_ids": ids})
        assert ticker.ticks - before > 10
    assert box.requests() == []


FORK = """
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks beside threads
assert client.get_response("before") == "before"
batch = client.submit_batch(["a", "b"]).wait(0.01)
if {fetched}:
    assert batch.results() == ["a", "b"]
def work(name):
    for n in range(3):
        assert client.get_response(f"{{name}} {{n}}") == f"{{name}} {{n}}"
    assert batch.results() == ["a", "b"]
    assert client.submit_batch([name]).wait(0.01).results() == [name]
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    code = 1
    try:
        if {parent_first}:
            time.sleep(0.3)
        work("child")
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)
signal.alarm(30)
if {parent_first}:
    work("parent")
_, status = os.waitpid(pid, 0)
work("parent")
tell(status=status)
"""


@pytest.mark.parametrize("parent_first", [True, False])
@pytest.mark.parametrize("fetched", [True, False])
def test_a_forked_child_goes_on_with_a_client(box: Any, parent_first: bool, fetched: bool) -> None:
    assert run(FORK.format(parent_first=parent_first, fetched=fetched), box.options("openai")) == {"status": 0}


def test_a_child_that_ends_normally_leaves_its_parent_alone(box: Any) -> None:
    code = """
    warnings.simplefilter("ignore", DeprecationWarning)
    import multiprocessing
    batch = client.submit_batch([f"Prompt {n}" for n in range(500)])
    def work(queue, n):
        queue.put((n, batch.wait(0.01).results(), client.get_response(str(n))))
    if __name__ == "__main__":
        signal.alarm(30)
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        children = [context.Process(target=work, args=(queue, n)) for n in range(3)]
        for child in children:
            child.start()
        found = sorted(queue.get() for _ in children)
        for child in children:
            child.join()
        own = batch.wait(0.01).results()
        tell(same=all(results == own for _, results, _ in found), texts=[text for _, _, text in found],
             codes=[child.exitcode for child in children], count=len(own))
    """
    told = run(code, box.options("openai"))
    assert told == {"same": True, "texts": ["0", "1", "2"], "codes": [0, 0, 0], "count": 500}


def test_a_fork_beside_a_sandbox_and_a_call_in_flight() -> None:
    code = """
    warnings.simplefilter("ignore", DeprecationWarning)
    box = llmbackend.sandbox()
    box.fault("stall:1@POST /v1/responses")
    client = llmbackend.client("openai", "m", **box.options("openai"), timeout=2, max_retries=0)
    texts = []
    def call():
        try:
            client.get_response("stalled")
        except llmbackend.APITimeoutError:
            texts.append("timed out")
    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.3)
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        assert client.get_response("child") == "child"
        box.close()
        sys.exit(0)
    signal.alarm(30)
    _, status = os.waitpid(pid, 0)
    assert client.get_response("parent") == "parent"
    thread.join()
    box.close()
    tell(status=status, texts=texts)
    """
    assert run(code, {"api_key": "k"}) == {"status": 0, "texts": ["timed out"]}


@pytest.mark.parametrize("what", ["client.get_response('a')", "client.submit_batch(['a']).wait()"])
def test_the_interpreter_ends_beside_a_call_in_flight(what: str) -> None:
    with llmbackend.sandbox(speed=0.01, faults=["stall@POST /v1/responses"]) as slow:
        code = f"""
        threading.Thread(target=lambda: {what}, daemon=True).start()
        time.sleep(0.4)
        tell(now=True)
        """
        started = time.monotonic()
        assert run(code, slow.options("openai")) == {"now": True}
        assert time.monotonic() - started < 5


@on_linux
def test_temporary_files_are_where_they_belong_and_go(box: Any, tmp_path: Path) -> None:
    code = """
    folder = os.environ["TMPDIR"]
    def in_use():
        links = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                 if os.path.lexists(f"/proc/self/fd/{n}")]
        return len([link for link in links if link.startswith(folder)])
    used = []
    def inputs():
        for n in range(3000):
            if n == 2500:
                used.append(in_use())
            yield f"Prompt {n}"
    batch = client.submit_batch(inputs()).wait(0.01)
    results = batch.results()
    used.append(in_use())
    assert len(results) == 3000
    listed = os.listdir(folder)
    del batch, results
    tell(used=used, listed=listed, left=in_use())
    """
    told = run(code, box.options("openai"), TMPDIR=str(tmp_path))
    assert told == {"used": [1, 1], "listed": [], "left": 0}
    assert list(tmp_path.iterdir()) == []


@on_linux
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("native", [True, False])
def test_temporary_files_are_private_whatever_the_umask(box: Any, tmp_path: Path, umask: int, native: bool) -> None:
    code = f"""
    os.umask({umask})
    folder = os.environ["TMPDIR"]
    def modes():
        paths = [f"/proc/self/fd/{{n}}" for n in os.listdir("/proc/self/fd")]
        return [oct(os.stat(path).st_mode & 0o777) for path in paths
                if os.path.lexists(path) and os.readlink(path).startswith(folder)]
    found = []
    def inputs():
        for n in range(3000 if {native} else 30):
            if n == 25:
                found.extend(modes())
            yield f"Prompt {{n}}"
    batch = client.submit_batch(inputs(), batch_options={{"native": {native}}}).wait(0.01)
    batch.results()
    found.extend(modes())
    tell(modes=sorted(set(found)), count=len(found))
    """
    told = run(code, box.options("openai"), TMPDIR=str(tmp_path))
    assert told["modes"] == ["0o600"]
    assert told["count"] >= 2


SANDBOX = """
os.umask({umask})
with llmbackend.sandbox(directory={directory!r}) as box:
    for provider in ("openai", "anthropic", "gemini"):
        one = llmbackend.client(provider, "m", **box.options(provider))
        for count in (2, 5001 if provider == "gemini" else 3):
            inputs = [str(n) for n in range(count)]
            assert one.submit_batch(inputs, batch_options={{"native": True}}).wait(0.01).results() == inputs
    folder = {directory!r}
    if folder is None:
        (name,) = [name for name in os.listdir(os.environ["TMPDIR"]) if name.startswith("llmbackend-sandbox-")]
        folder = os.path.join(os.environ["TMPDIR"], name)
    mode = lambda path: oct(os.stat(path).st_mode & 0o777)
    files = sorted({{mode(os.path.join(folder, name)) for name in os.listdir(folder)}})
    tell(folder=mode(folder), files=files)
"""


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o177, 0o777])
def test_the_sandbox_keeps_its_files_to_itself(tmp_path: Path, umask: int) -> None:
    private = {"folder": "0o700", "files": ["0o600"]}
    temporary = SANDBOX.format(umask=umask, directory=None)
    assert run(temporary, {"api_key": "k"}, TMPDIR=str(tmp_path)) == private
    made = str(tmp_path / "new" / "folder")
    assert run(SANDBOX.format(umask=umask, directory=made), {"api_key": "k"}) == private
    named = tmp_path / "named"
    named.mkdir()
    named.chmod(0o755)
    told = run(SANDBOX.format(umask=umask, directory=str(named)), {"api_key": "k"})
    assert told == {"folder": "0o755", "files": ["0o600"]}


def test_an_interrupted_batch_leaves_no_file(box: Any, tmp_path: Path) -> None:
    box.fault("stall@POST /v1/files")
    process = start("interrupted(lambda: client.submit_batch(['a']))", box.options("openai"), TMPDIR=str(tmp_path))
    interrupt_when(process, lambda: posts(box, "/v1/files"))
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_that_is_not_there(box: Any, tmp_path: Path) -> None:
    code = """
    try:
        client.submit_batch(["a"])
    except llmbackend.LLMBackendError as error:
        tell(kind=type(error).__name__, message=str(error))
    """
    told = run(code, box.options("openai"), TMPDIR=str(tmp_path / "none"))
    assert told["kind"] == "LLMBackendError"
    assert str(tmp_path / "none") in told["message"]
    assert "TMPDIR" in told["message"]
    assert box.requests() == []


LIMITED = """
import resource
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
"""


def test_a_full_disk_while_rows_are_built(box: Any, tmp_path: Path) -> None:
    code = """
    limit(1_000_000)
    try:
        client.submit_batch("x" * 1000 for _ in range(3000))
    except llmbackend.LLMBackendError as error:
        first = str(error)
    limit(resource.RLIM_INFINITY)
    client.submit_batch("x" * 1000 for _ in range(3000))
    tell(message=first)
    """
    message = run(LIMITED + textwrap.dedent(code), box.options("openai"), TMPDIR=str(tmp_path))["message"]
    for words in ("Writing", "bytes of requests", str(tmp_path), "Free some space", "TMPDIR"):
        assert words in message
    assert posts(box) == [200]


def test_a_full_disk_while_results_come(box: Any, client: Any, tmp_path: Path) -> None:
    batch = client.submit_batch(["x" * 1000] * 2000).wait(POLL)
    code = """
    batch = client.get_batch(os.environ["BATCH"])
    limit(1_000_000)
    try:
        batch.results()
    except llmbackend.LLMBackendError as error:
        first = str(error)
    limit(resource.RLIM_INFINITY)
    tell(message=first, count=len(batch.results()))
    """
    told = run(LIMITED + textwrap.dedent(code), box.options("openai"), TMPDIR=str(tmp_path), BATCH=batch.id)
    assert "Saving a download" in told["message"]
    assert str(tmp_path) in told["message"]
    assert told["count"] == 2000


PEAK = """
def peak():
    # Not ru_maxrss, in which the parent's peak lives on.
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
"""


@on_linux
def test_memory_does_not_grow_with_the_rows(box: Any) -> None:
    code = """
    def inputs(count):
        for n in range(count):
            yield f"{n} " + "x" * 4000
    batch = client.submit_batch(inputs(100)).wait(0.01)
    assert len([item for item in batch.items()]) == 100
    before = peak()
    batch = client.submit_batch(inputs(40_000))
    built = peak()
    batch.wait(0.1)
    count = 0
    for item in batch.items():
        assert item.value.startswith(f"{count} x") and item.index == count
        count += 1
    tell(count=count, built=built - before, read=peak() - built)
    """
    told = run(PEAK + textwrap.dedent(code), box.options("openai"))
    assert told["count"] == 40_000
    # Of 160 MB in and 190 MB out.
    assert told["built"] < 12, told
    assert told["read"] < 15, told


@on_linux
def test_long_prompts_do_not_pile_up(box: Any) -> None:
    code = """
    client.get_response("a")
    before = peak()
    client.submit_batch(f"{n}" + "x" * 1_000_000 for n in range(150))
    tell(grown=peak() - before)
    """
    assert run(PEAK + textwrap.dedent(code), box.options("openai"))["grown"] < 50
    assert posts(box) == [200]


def test_a_proxy_is_not_asked_for_a_server_on_this_machine(box: Any) -> None:
    nowhere = "http://127.0.0.1:9"
    told = run("tell(text=client.get_response('a'))", box.options("openai"), HTTP_PROXY=nowhere, http_proxy=nowhere)
    assert told == {"text": "a"}


def test_a_proxy_is_asked_for_all_others(box: Any) -> None:
    with Proxy(box, lambda exchange: Reply.of({"error": {"message": f"asked for {exchange.path}"}}, 400)) as proxy:
        url = proxy.url.removesuffix("/api.openai.com/v1")
        code = """
        try:
            client.get_response("a")
        except llmbackend.InvalidRequestError as error:
            tell(message=error.message)
        """
        options = {"api_key": "k", "base_url": "http://nowhere.invalid/v1"}
        told = run(code, options, HTTP_PROXY=url, http_proxy=url, NO_PROXY="", no_proxy="")
    assert told == {"message": "asked for http://nowhere.invalid/v1/responses"}
