"""Workers that are not as they should be, under a supervisor as it is."""

import asyncio
import logging
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from processes import lives, state

from bitsd.config import from_table
from bitsd.listeners import Listeners
from bitsd.owners import Admit, Answer, Count, Full, Made, Question
from bitsd.protocol.wire import SessionId
from bitsd.supervisor import LONGEST_PAUSE, Supervisor, pause
from bitsd.worker import SIGNALS, Failed, Message, Ready, Supervising

PATIENCE = 20.0
A = SessionId("{11111111-2222-4333-8444-555555555555}")


def test_worker_that_dies_again_and_again_is_replaced_ever_later():
    pauses = [pause(deaths) for deaths in range(9)]

    assert pauses == [0, 0, 1, 2, 4, 8, 16, 30, 30]
    assert pause(10**4) == LONGEST_PAUSE


# Workers of a few lines. They run in processes that a test starts.


class Oddity:
    """A line to the supervisor, without the event loop of a real worker.

    Attributes:
        odd: it is the one of two that is not as it should be.
        replaces: it took the place of that one.
    """

    def __init__(self, line: socket.socket, number: int) -> None:
        self.line = line
        self.replaces = number == 1 and Path("odd").exists()
        self.odd = number == 1 and not self.replaces
        if self.odd:
            Path("odd").touch()
        line.settimeout(PATIENCE)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def tell(self, message: Message) -> None:
        self.line.send(msgspec.msgpack.encode(message))

    def ask(self, question: Question) -> Answer:
        self.tell(question)
        return msgspec.msgpack.decode(self.line.recv(1 << 18), type=Answer)

    def start(self) -> None:
        """Be ready, and wait until the other is."""
        self.tell(Ready())
        while not Path("ready").exists():
            time.sleep(0.01)

    def stay(self) -> int:
        """Until a signal, or the end of the supervisor."""
        self.tell(Ready())
        if self.replaces:
            Path("replaced").touch()
        self.line.settimeout(None)
        self.line.recv(1)
        return 0


Work = Callable[[Oddity], int]


def failing(odd: Oddity) -> int:
    odd.tell(Failed("no room"))
    return 1


def speaking_last(odd: Oddity) -> int:
    """Be gone before the supervisor, which cannot listen now, hears of it."""
    os.kill(os.getppid(), signal.SIGSTOP)
    until(lambda: state(os.getppid()) == "T")
    odd.tell(Failed("no room"))
    Path("last").write_text(str(os.getpid()))
    Path("last").rename("gone")
    return 1


def raising(_odd: Oddity) -> int:
    raise RuntimeError("a bug")


def failing_later(odd: Oddity) -> int:
    odd.start()
    odd.tell(Failed("no room any more"))
    return 1


def confused(octets: bytes) -> Work:
    """A worker whose message cannot be obeyed, and who would go on."""

    def work(odd: Oddity) -> int:
        odd.start()
        odd.line.send(octets)
        time.sleep(PATIENCE)
        return 0

    return work


def deaf(odd: Oddity) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    odd.start()
    time.sleep(PATIENCE)
    return 0


def flooding(odd: Oddity) -> int:
    """Ask, and read no answer."""
    odd.start()
    owners = {SessionId(f"{{{number}}}"): "alice" for number in range(1000)}
    odd.tell(Count(0, owners))
    while True:
        odd.tell(Admit(0, A, "alice"))


def hasty(odd: Oddity) -> int:
    """Be gone before the answers come."""
    odd.start()
    for _ in range(100):
        odd.tell(Made(0, A))
    return 0


def dying(odd: Oddity) -> int:
    """Leave a session pending."""
    odd.start()
    odd.ask(Admit(0, A, "alice"))
    return 0


KINDS: dict[str, Work] = {
    "good": Oddity.stay,
    "failing": failing,
    "speaking last": speaking_last,
    "raising": raising,
    "failing later": failing_later,
    "no message": confused(b"\xc1"),
    "no text": confused(b"\x84\xa4type\xa4Made\xa9directory\x00\xa5named\xa1\xff"),
    "deep": confused(b"\x91" * 100_000),
    "no directory": confused(msgspec.msgpack.encode(Made(7, A))),
    "deaf": deaf,
    "flooding": flooding,
    "hasty": hasty,
    "dying": dying,
    "dying always": dying,
}


def looks_up(odd: Oddity) -> int:
    """Which sessions a worker is told of after another died."""
    other = Admit(0, SessionId("{other}"), "alice")
    Path("answer").write_text(str(odd.ask(other)))
    return odd.stay()


def say(word: str) -> None:
    Path(word).touch()
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main(kind: str, files: int) -> None:
    """The process that a test starts.

    Args:
        kind: of worker 1, until it is replaced.
        files: that may be open at once.
    """
    logging.basicConfig(format="%(message)s")
    table = {
        "workers": 2,
        "stop_timeout": 1,
        "listen": [{"address": "127.0.0.1:0"}],
        "directory": [{"url": "/in", "path": ".", "sessions_per_user": 1}],
    }
    config = from_table(table, Path.cwd())
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    def work(_config: object, _listeners: object, line: socket.socket, number: int):
        odd = Oddity(line, number)
        if kind == "dying" and odd.replaces:
            return looks_up(odd)
        always = kind == "dying always" and number == 1
        return KINDS[kind](odd) if odd.odd or always else odd.stay()

    with Listeners(config.listen, config.workers) as listeners:
        Supervisor(config, listeners, lambda: say("ready"), work).run()
    say("stopped")


@contextmanager
def supervised(
    kind: str, folder: Path, *, files: int = 100
) -> Iterator[subprocess.Popen[str]]:
    """A supervisor with two workers of that kind."""
    tests = Path(__file__).parent
    code = f"import test_supervisor as here; here.main({kind!r}, {files})"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{tests}:{tests.parent}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard output and error, once it has ended by itself."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def replaced(kind: str, folder: Path) -> str:
    """Standard error of a supervisor that replaced its worker and then ended well."""
    with supervised(kind, folder) as process:
        until((folder / "replaced").exists)
        process.terminate()
        code, out, err = ended(process)
    assert (code, out) == (0, "ready\nstopped\n"), err
    return err


def test_workers_end_when_they_are_asked_to(tmp_path: Path):
    with supervised("good", tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()

        assert ended(process) == (0, "stopped\n", "")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("failing", r"CannotStart: no room\n"),
        ("raising", r"CannotStart: worker 1 ended with 1; see the log\n"),
    ],
)
def test_worker_that_cannot_start_ends_all(tmp_path: Path, kind: str, reason: str):
    with supervised(kind, tmp_path) as process:
        code, out, err = ended(process)

    assert (code, out) == (1, "")
    assert re.search(reason, err)
    assert ("RuntimeError: a bug" in err) is (kind == "raising")


@pytest.mark.parametrize("kind", ["no message", "no text", "deep", "no directory"])
def test_message_that_makes_no_sense_ends_its_worker_only(tmp_path: Path, kind: str):
    err = replaced(kind, tmp_path)

    assert "worker-confused worker=1" in err
    assert 'worker-died worker=1 detail="ended with -9"' in err
    assert "Traceback" not in err


def test_worker_that_reads_no_answers_is_replaced(tmp_path: Path):
    assert "worker-confused worker=1" in replaced("flooding", tmp_path)


def test_worker_that_is_gone_when_it_is_answered_is_replaced(tmp_path: Path):
    assert 'worker=1 detail="ended with 0"' in replaced("hasty", tmp_path)


def test_worker_that_cannot_start_later_is_told_and_replaced(tmp_path: Path):
    err = replaced("failing later", tmp_path)

    assert 'worker-failed worker=1 detail="no room any more"' in err
    assert 'worker-died worker=1 detail="ended with 1"' in err


def test_what_a_dead_worker_had_pending_is_looked_up(tmp_path: Path):
    replaced("dying", tmp_path)

    assert (tmp_path / "answer").read_text() == str(Full(1, (A,)))


def test_last_words_of_a_worker_are_heard(tmp_path: Path):
    with supervised("speaking last", tmp_path) as process:
        until((tmp_path / "gone").exists)
        until(lambda: not lives(int((tmp_path / "gone").read_text())))
        process.send_signal(signal.SIGCONT)
        code, out, err = ended(process)

    assert (code, out) == (1, "")
    assert "CannotStart: no room\n" in err


def test_supervisor_stops_while_a_worker_waits_to_be_replaced(tmp_path: Path):
    with supervised("dying always", tmp_path) as process:
        assert process.stderr is not None
        told = [process.stderr.readline() for _ in range(2)]
        process.send_signal(signal.SIGHUP)
        process.terminate()
        code, out, err = ended(process)

    assert told == ['worker-died worker=1 detail="ended with 0"\n'] * 2
    assert (code, out, err) == (0, "ready\nstopped\n", "")


def test_worker_that_does_not_stop_is_killed(tmp_path: Path):
    with supervised("deaf", tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        process.send_signal(signal.SIGINT)  # as of somebody who loses patience
        code, out, err = ended(process)

    assert (code, out) == (0, "stopped\n")
    assert "workers-killed workers=1" in err


def test_worker_for_which_there_is_no_room_is_told(tmp_path: Path):
    with supervised("good", tmp_path, files=8) as process:
        code, out, err = ended(process)

    assert (code, out) == (1, "")
    assert "cannot be started: Too many open files; see the log" in err


# What a worker sees of its supervisor.


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The worker's end of a line, and the supervisor's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(0)
    with ours, theirs:
        yield ours, theirs


async def heard(theirs: socket.socket) -> Message:
    octets = await asyncio.wait_for(
        asyncio.get_running_loop().sock_recv(theirs, 1 << 18), PATIENCE
    )
    return msgspec.msgpack.decode(octets, type=Message)


async def test_questions_are_asked_one_after_the_other(ends):
    ours, theirs = ends
    supervising = Supervising(ours, bool)
    questions = [Made(number, A) for number in range(3)]
    asked = [asyncio.create_task(supervising.ask(question)) for question in questions]
    for number, question in enumerate(questions):
        assert await heard(theirs) == question
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
        theirs.send(msgspec.msgpack.encode(Full(number, ())))

    assert await asyncio.gather(*asked) == [Full(number, ()) for number in range(3)]


async def test_answer_to_what_was_given_up_is_not_taken_for_another(ends):
    ours, theirs = ends
    supervising = Supervising(ours, bool)
    first = asyncio.create_task(supervising.ask(Made(0, A)))
    await heard(theirs)
    first.cancel()
    second = asyncio.create_task(supervising.ask(Made(1, A)))
    await heard(theirs)
    for number in range(2):
        theirs.send(msgspec.msgpack.encode(Full(number, ())))

    assert await second == Full(1, ())
    assert first.cancelled()


@pytest.mark.parametrize("unread", [True, False])
async def test_supervisor_that_is_gone_is_an_error_and_the_end(ends, *, unread: bool):
    ours, theirs = ends
    gone = asyncio.Event()
    supervising = Supervising(ours, gone.set)
    given_up = asyncio.create_task(supervising.ask(Made(0, A)))
    await heard(theirs)
    given_up.cancel()
    asked = asyncio.create_task(supervising.ask(Made(0, A)))
    if unread:  # then the end of the line is a reset
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    else:
        await heard(theirs)
    theirs.close()
    await asyncio.wait_for(gone.wait(), PATIENCE)

    for question in (asked, supervising.ask(Made(0, A))):
        with pytest.raises(ConnectionError):
            await question
