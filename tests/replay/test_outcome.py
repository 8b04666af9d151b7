"""`bitsd replay`, and the fixture for pytest."""

import asyncio
import getpass
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from captured import Talk, answer, request, write
from listening import listening
from processes import PROCESS_SECONDS, started

from bitsd.cli import main
from bitsd.replay.play import Options

pytest_plugins = ["bitsd.replay.fixture"]

SIGNED = request("GET", "/get", "Authorization: Basic b2xkOnNlY3JldA==")
OK = answer(200, "Content-Length: 3", body=b"abc")


class Handler(BaseHTTPRequestHandler):
    """Answers 200 to whoever asks for `/get`."""

    asked: list[dict[str, str]]

    def do_GET(self) -> None:
        self.asked.append({name.lower(): value for name, value in self.headers.items()})
        if self.path == "/get":
            self.send_response(200)
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"abc")
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Quiet(HTTPServer):
    """Says nothing of clients that went away."""

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A URL, and the fields of the requests that came there."""
    handler = type("Heard", (Handler,), {"asked": []})
    with Quiet(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler.asked
        server.shutdown()
        thread.join()


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    talk = Talk().open().ask(request("GET", "/get")).answer(OK).close()
    return write(tmp_path / "x.pcap", talk)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """What the server answers otherwise."""
    talk = Talk().open().ask(request("GET", "/other")).answer(OK).close()
    three = Talk(client=talk.client._replace(port=9), time=talk.time).ask(
        b"\x16\x03\x01"
    )
    return write(tmp_path / "y.pcap", talk, three)


def test_the_same_answers_are_a_success(capture: Path, capsys):
    with serving() as (url, _):
        assert main(["replay", str(capture), "--to", url]) == 0

    assert capsys.readouterr() == ("1 answers compared, no differences\n", "")


def test_differences_are_named_and_are_a_failure(other: Path, capsys):
    with serving() as (url, _):
        assert main(["replay", str(other), "--to", url]) == 1

    assert capsys.readouterr().out.splitlines() == [
        "note: connection 2 is TLS: not sent",
        "exchange 1 (GET /other): status: captured 200, got 404",
        "1 answers compared, 1 differences",
    ]


def test_differences_may_be_read_by_programs(other: Path, capsys):
    with serving() as (url, _):
        assert main(["replay", str(other), "--json", "--to", url]) == 1

    assert json.loads(capsys.readouterr().out) == {
        "to": url,
        "compared": 1,
        "notes": ["connection 2 is TLS: not sent"],
        "differences": [
            {
                "exchange": 1,
                "request": "GET /other",
                "field": "status",
                "captured": "200",
                "got": "404",
            }
        ],
    }


def test_options_reach_the_server(tmp_path: Path):
    path = write(tmp_path / "x.pcap", Talk().open().ask(SIGNED).answer(OK))
    options = ["--header", "X-Key: a b", "--header", "Y:", "--user", "alice:pass"]
    options += ["--ignore", "Date", "--timing", "--as-recorded-cuts"]
    with serving() as (url, asked):
        assert main(["replay", str(path), "--to", url, *options]) == 0

    (fields,) = asked
    assert (fields["x-key"], fields["y"]) == ("a b", "")
    assert fields["authorization"] == "Basic YWxpY2U6cGFzcw=="


def test_a_password_is_asked_for(tmp_path: Path, monkeypatch):
    path = write(tmp_path / "x.pcap", Talk().open().ask(SIGNED).answer(OK))
    monkeypatch.setattr(getpass, "getpass", lambda prompt: prompt.split()[-1] + "x")
    with serving() as (url, asked):
        assert main(["replay", str(path), "--to", url, "--user", "alice"]) == 0

    assert asked[0]["authorization"] == "Basic YWxpY2U6YWxpY2U6eA=="


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "required: --to"),
        (["--to", "h:80"], "give a URL such as"),
        (["--to", "http://h/in"], "paths are captured"),
        (["--to", "http://h", "--header", "no colon"], "is not 'NAME: VALUE'"),
        (["--to", "http://h", "--header", "A: b\r\nC: d"], "is not 'NAME: VALUE'"),
    ],
)
def test_wrong_usage_is_told(capture: Path, capsys, arguments: list[str], told: str):
    with pytest.raises(SystemExit) as stopped:
        main(["replay", str(capture), *arguments])

    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


def problem(capsys, *arguments: object) -> str:
    assert main(["replay", *map(str, arguments)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


def test_what_cannot_be_played_is_one_line(tmp_path: Path, capsys):
    (tmp_path / "text").write_text("no capture")
    signed = write(tmp_path / "x.pcap", Talk().open().ask(SIGNED).answer(OK))
    to = ("--to", "http://127.0.0.1:1")

    assert "not a pcap" in problem(capsys, tmp_path / "text", *to)
    assert "No such file" in problem(capsys, tmp_path / "none", *to)
    assert "give --user NAME:PASSWORD" in problem(capsys, signed, *to)
    assert "cannot connect to 127.0.0.1:1" in problem(
        capsys, signed, *to, "--user", "a:"
    )


STOPPED = "bitsd: stopped before all answers came\n"


async def test_who_stops_it_sees_one_line(capture: Path):
    async def stop(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        process.send_signal(signal.SIGINT)
        await reader.read()

    async with listening(stop) as port:
        url = f"http://127.0.0.1:{port}"
        process = await started("replay", str(capture), "--to", url)
        async with asyncio.timeout(PROCESS_SECONDS):
            out, err = await process.communicate()

    assert (process.returncode, out, err.decode()) == (1, b"", STOPPED)


def test_who_gives_no_password_sees_one_line(capture: Path, capsys, monkeypatch):
    def interrupted(_prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(getpass, "getpass", interrupted)

    assert main(["replay", str(capture), "--to", "http://h", "--user", "alice"]) == 1
    assert capsys.readouterr() == ("", STOPPED)


def test_a_damaged_capture_is_told(capture: Path, capsys):
    capture.write_bytes(capture.read_bytes()[:-1])
    with serving() as (url, _):
        assert main(["replay", str(capture), "--to", url]) == 0

    out = capsys.readouterr().out
    assert "note: the file ends inside a packet; 8 packets were read before" in out


def test_the_fixture_plays_captures(replay, capture: Path, other: Path):
    with serving() as (url, _):
        assert replay(capture, url).differences == []
        (difference,) = replay(str(other), url, Options(patience=5)).differences

    assert str(difference) == "exchange 1 (GET /other): status: captured 200, got 404"


async def test_the_fixture_is_for_a_thread_where_a_loop_runs(replay, capture):
    with serving() as (url, _):
        result = await asyncio.to_thread(replay, capture, url)

    assert result.compared == 1
