"""`bitsd doctor` as people and programs use it."""

import asyncio
import json
import signal
import socket
from pathlib import Path

import pytest
from clinic import Bits, always
from processes import PROCESS_SECONDS, is_one_line, ran, started
from scripted import SILENCE, answer, scripted
from sites import Site, write

from bitsd.cli import main
from bitsd.doctor import report
from bitsd.doctor.hops import Hop
from bitsd.doctor.verdicts import VERDICTS, Symptom

SMALL = ("--size", "2000000")


async def test_well_server_is_told_line_by_line(site: Site):
    code, out, err = await ran("doctor", f"{site.url}/in/", *SMALL)

    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line[:8].strip() for line in lines[:10]] == ["ok"] * 10
    assert lines[3] == "ok      ping         the BITS server answered 200"
    assert lines[-1] == "no fault found"


async def test_fault_is_told_with_code_hop_and_cure():
    page = b"<hr><center>nginx/1.22.1</center>"
    script = Bits({"Ping": always(answer(405, ("Server", "nginx"), body=page))})
    async with scripted(script) as server:
        code, out, err = await ran("doctor", f"{server.url}/in/", *SMALL)

    assert (code, err) == (1, "")
    assert (
        "FAULT   ping         nginx answered 405 before a BITS server saw it\n" in out
    )
    assert out.partition("\n\n")[2] == (
        "ping: nginx answered 405 before a BITS server saw it\n"
        "  It never reached a BITS server; a job shows the status and stops. "
        "(0x80190195)\n"
        "  -> nginx: `proxy_pass http://127.0.0.1:8080;` in the location of this URL, "
        "and\n"
        "     no limit_except\n"
    )


async def test_keys_of_what_is_found_are_those_that_are_promised(site: Site):
    url = f"{site.url}/no/"
    code, out, _err = await ran("doctor", url, *SMALL, "--json")
    found = json.loads(out)

    assert code == 1
    assert found.keys() == {"url", "findings"}
    assert found["url"] == url
    assert found["findings"][3] == {
        "probe": "ping",
        "result": "fault",
        "detail": "the BITS server answered 404",
        "fault": {
            "symptom": "no-folder",
            "hop": "the BITS server",
            "code": "0x80190194",
            "means": VERDICTS[Symptom.NO_FOLDER].means,
            "cure": [VERDICTS[Symptom.NO_FOLDER].cure],
        },
    }
    assert found["findings"][0]["fault"] is None


def test_server_that_cannot_be_reached_has_a_code_of_its_own(capsys):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        code = main(["doctor", f"http://127.0.0.1:{port}/in/"])
    out = capsys.readouterr().out

    assert code == 3
    assert "(0x80072EFD)" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ftp://x/"], "'ftp://x/' is not an http or https URL"),
        (["http://"], "is not an http or https URL"),
        (["http://x:port/"], "is not an http or https URL"),
        (["http://x/", "--size", "many"], "not a size"),
        (["http://x/", "--size", "0"], "give at least 1"),
        (["http://x/", "--file", "http://y/a"], "has to be at the server of URL"),
        (["http://x/", "--auth", "ntlm"], "--auth goes with --user"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], said: str, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", *arguments])

    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_file_of_an_option_that_is_none_is_one_line(tmp_path: Path, capsys):
    none = str(tmp_path / "none.pem")

    assert main(["doctor", "https://127.0.0.1/", "--ca", none]) == 1
    err = capsys.readouterr().err
    assert is_one_line(err)
    assert f"cannot use --ca {none}" in err


async def test_interrupted_doctor_leaves_no_session():
    waiting = asyncio.Event()

    def fragment(_asked: object) -> None:
        waiting.set()
        return SILENCE

    bits = Bits({"Fragment": fragment})
    async with scripted(bits) as server:
        process = await started("doctor", f"{server.url}/in/", *SMALL)
        async with asyncio.timeout(PROCESS_SECONDS):
            await waiting.wait()
            process.send_signal(signal.SIGINT)
            _out, err = await process.communicate()

    assert process.returncode == 1
    assert is_one_line(err.decode())
    assert bits.gone == server.packets.count("Create-Session")


async def test_file_is_tested_if_the_url_is_one(site: Site):
    write(str(site.folder / "a.ckm"), bytes(1000))
    code, out, _err = await ran("doctor", f"{site.url}/in/a.ckm", *SMALL)

    assert code == 0
    assert "ok      20 ranges    206, as asked for\n" in out


def test_what_a_server_wrote_cannot_move_the_cursor():
    finding = report.Finding("head", report.Result.OK, "301 to \x1b[2J")

    assert report.line(finding) == "ok      head         301 to \\x1b[2J"


def test_long_finding_is_wrapped_under_itself():
    told = "connections to the server are shared between clients; Negotiate may fail"
    finding = report.Finding("pool", report.Result.NOTE, told)

    assert report.line(finding).splitlines() == [
        "note    pool         connections to the server are shared between clients;",
        "                     Negotiate may fail",
    ]


def test_symptom_that_two_probes_show_is_one_fault():
    findings = report.Findings(lambda _finding: None)
    for probe in ("range", "suffix"):
        findings.fault(probe, Symptom.NO_RANGES, "200", hop=Hop.NGINX, status=200)
    findings.fault("file", Symptom.NO_FILE, "no answer")

    assert [(each.symptom, each.code) for each in findings.faults] == [
        (Symptom.NO_RANGES, "0x80200013"),
        (Symptom.NO_FILE, ""),
    ]
