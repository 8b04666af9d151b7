"""`bitsd decode`."""

import json
from pathlib import Path

import pytest
from captured import (
    CLIENT,
    ID,
    RAW,
    Talk,
    ack,
    answer,
    bits,
    control,
    create,
    created,
    fragment,
    head,
    packet,
    pcap_of,
    pcapng_of,
    received,
    request,
    write,
)
from dpkt import tcp
from store_kit import run_child

from bitsd.cli import main


def upload() -> Talk:
    talk = Talk().open().ask(create()).answer(created())
    talk.ask(fragment(0, b"abc", 9)).answer(received(3))
    return talk.ask(fragment(3, b"defghi", 9)[:-4]).reset()


def resumed() -> Talk:
    talk = Talk(client=CLIENT._replace(port=50001), time=upload().time).open()
    talk.ask(bits("Ping")).answer(ack())
    talk.ask(fragment(3, b"defghi", 9)).answer(received(9))
    return talk.ask(control("Close-Session")).answer(ack()).close()


@pytest.fixture
def decode(tmp_path: Path, capsys):
    def decode(*talks: Talk, **how) -> list[str]:
        path = write(tmp_path / "x.pcap", *talks, **how)
        assert main(["decode", str(path)]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out.splitlines()

    return decode


def test_a_resumed_upload_is_shown_as_tables(decode):
    assert decode(upload(), resumed()) == [
        "Connections",
        (
            "     1      0.000  192.0.2.1:50000 > 192.0.2.2:80: 3 exchanges, "
            "ended by the client (RST)"
        ),
        (
            "     2      0.009  192.0.2.1:50001 > 192.0.2.2:80: 3 exchanges, "
            "ended by the client (FIN)"
        ),
        "",
        "Exchanges",
        "    no  conn       time  request                                  answer",
        f"     1     1      0.003  Create-Session /in/a                     200 {ID}",
        (
            "     2     1      0.005  Fragment 0-2/9                           "
            "200 received 3"
        ),
        (
            "     3     1      0.007  Fragment 3-8/9 (cut after 2 of 6 bytes)  "
            "none, ended by the client (RST)"
        ),
        "     4     2      0.012  Ping /in/a                               200",
        (
            "     5     2      0.014  Fragment 3-8/9                           "
            "200 received 9"
        ),
        "     6     2      0.016  Close-Session /in/a                      200",
        "",
        "Sessions",
        f"  {ID} /in/a: 5 packets over connections 1, 2, 9 of 9 bytes, closed",
        "",
        "Totals",
        (
            "  21 packets, 2 connections, 6 exchanges, 1 sessions, 11 bytes up, "
            "0 bytes down"
        ),
        "",
        "Against the rules",
        "  nothing",
    ]


def test_pcapng_shows_the_same(decode):
    assert decode(upload(), into=pcapng_of) == decode(upload())


def answers_of(lines: list[str]) -> list[str]:
    start = lines.index("Exchanges") + 2
    rows = lines[start : lines.index("", start)]
    return [row.split("  ")[-1] for row in rows]


def requests_of(lines: list[str]) -> list[str]:
    start = lines.index("Exchanges") + 2
    rows = lines[start : lines.index("", start)]
    return [row[25:].split("  ")[0] for row in rows]


REFUSED = "BITS-Error: 0x80070057", "BITS-Error-Context: 0x5"


@pytest.mark.parametrize(
    ("octets", "shown"),
    [
        (
            ack(400, *REFUSED),
            "400 0x80070057 E_INVALIDARG",
        ),
        (ack(500, "BITS-Error-Code: 0xA0000001"), "500 0xA0000001"),
        (ack(500, "BITS-Error: what"), "500 what"),
        (answer(413, "Content-Length: 0"), "413 Content Too Large"),
        (ack(599), "599"),
        (received(3, 416), "416 received 3"),
        (answer(100) + received(3), "100 then 200 received 3"),
    ],
)
def test_acks_are_explained(decode, octets: bytes, shown: str):
    lines = decode(Talk().open().ask(fragment(0, b"abc", 9)).answer(octets))

    (found,) = answers_of(lines)
    assert found == shown.replace("Content Too Large", found.removeprefix("413 "))


def test_what_a_code_means_is_said_once_below(decode):
    talk = Talk().open()
    for code in ("0x80070005", "80070005", "0x80200020", "0xA0000001"):
        talk.ask(fragment(0, b"abc", 9)).answer(ack(400, f"BITS-Error: {code}"))
    lines = decode(talk)
    start = lines.index("Codes") + 1

    assert [line[:20] for line in lines[start : lines.index("", start)]] == [
        *("  BG_E_TOO_LARGE: Th", "  E_ACCESSDENIED: Ac", "    the remote file,")
    ]


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (request("GET", "/f"), "GET /f"),
        (request("GET", "/f", "Range: bytes=0-9"), "GET /f bytes=0-9"),
        (request("GET", "/f", "Range: bytes=0-9,20-29"), "GET /f 2 ranges"),
        (bits("Fragment"), "Fragment /in/a"),
        (request("BITS_POST", "/in/a"), "(no packet type) /in/a"),
        (
            request("PUT", "/f", "Transfer-Encoding: chunked", body=b"9\r\nabc"),
            "PUT /f (cut after 3 bytes)",
        ),
    ],
)
def test_requests_are_named(decode, asked: bytes, shown: str):
    assert requests_of(decode(Talk().open().ask(asked))) == [shown]


def test_downloads_are_shown(decode):
    parts = head("--b", "Content-Range: bytes 0-1/9") + b"ab\r\n--b--"
    kind = "Content-Type: multipart/byteranges; boundary=b"
    talk = Talk().open()
    for octets in (
        answer(200, "Content-Length: 3", body=b"abc"),
        answer(206, kind, f"Content-Length: {len(parts)}", body=parts),
        answer(200, "Content-Length: 9", body=b"abc"),
    ):
        talk.ask(request("GET", "/f")).answer(octets)

    assert answers_of(decode(talk)) == [
        "200 OK 3 bytes",
        f"206 Partial Content {len(parts)} bytes in 1 parts",
        "200 OK (cut after 3 bytes)",
    ]


def test_an_answer_may_be_all_there_is(decode):
    talk = Talk().lose(0, 1).lose(1, 1).answer(answer(200, "Content-Length: 0"))

    assert requests_of(decode(talk)) == ["(not captured)"]


def test_what_is_not_read_is_told(decode):
    tls = b"\x16\x03\x01\x02\x00\x01"
    lines = decode(
        Talk().lose(0, 1).ask(tls).lose(0, 7).ask(tls),
        Talk(client=CLIENT._replace(port=50001)).open().ask(b"SSH-2.0\r\n"),
    )

    assert lines[1].endswith(
        "TLS, not read, begun before the capture, 7 bytes are not captured, "
        "open at the end of the capture"
    )
    assert lines[2].endswith("no HTTP, not read, open at the end of the capture")
    assert "  0 exchanges" not in lines


def test_packets_that_are_not_read_are_counted(tmp_path: Path, capsys):
    octets = packet(Talk().segment(0, tcp.TH_ACK, b"x"))
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap_of([(1.0, octets[:6] + b"\x20" + octets[7:])] * 2, RAW))

    assert main(["decode", str(path)]) == 0
    assert (
        "  2 packets were not read: fragments of IP packets, which are not put together"
        in capsys.readouterr().out.splitlines()
    )


def test_broken_rules_are_shown_with_their_section(decode):
    talk = Talk().open().ask(request("GET", "/f", host=""))

    assert decode(talk)[-1] == (
        "     1  client: 0 Host fields in place of one (RFC 9112 3.2)"
    )


def test_a_session_that_is_not_known_yet_has_no_numbers(decode):
    lines = decode(Talk().open().ask(create()).answer(created()))

    assert (
        f"  {ID} /in/a: 1 packets over connection 1, ? of ? bytes, not ended" in lines
    )


EVIL = "\x1b]0;owned\x07\x9b2J\x00"


def test_a_terminal_is_not_told_what_to_do(decode, tmp_path: Path, capsys):
    wire = EVIL.encode("latin-1").decode("latin-1")
    talk = Talk().open()
    talk.ask(bits(f"Pi{wire}ng", target=f"/in/{wire}"))
    talk.answer(ack(400, f"BITS-Error: 0x{wire}", f"BITS-Session-Id: {wire}"))
    talk.ask(create(target=f"/{wire}")).answer(created(f"{{{wire}}}"))
    talk.ask(fragment(0, b"a", 9, wire)).answer(received(1) + wire.encode("latin-1"))
    text = "\n".join(decode(talk))

    assert [letter for letter in text if not letter.isprintable()] == ["\n"] * (
        text.count("\n")
    )
    assert main(["decode", "--json", str(tmp_path / "x.pcap")]) == 0
    assert not {"\x1b", "\x07", "\x9b", "\x00"} & set(capsys.readouterr().out)


def test_long_values_are_cut(decode):
    lines = decode(Talk().open().ask(request("GET", "/" + "x" * 500)))

    assert requests_of(lines) == ["GET /" + "x" * 56 + "..."]


def test_json_has_it_all(tmp_path: Path, capsys):
    parts = head("--b", "Content-Range: bytes 0-1/9") + b"ab\r\n--b--"
    kind = "Content-Type: multipart/byteranges; boundary=b"
    download = Talk(client=CLIENT._replace(port=50002), time=upload().time + 1).open()
    download.ask(request("GET", "/f"))
    download.answer(answer(206, kind, f"Content-Length: {len(parts)}", body=parts))
    orphan = Talk(client=CLIENT._replace(port=50003), time=download.time).open()
    orphan.lose(0, 5).answer(answer(200, "Content-Length: 0"))
    path = write(tmp_path / "x.pcap.gz", upload(), download, orphan)

    assert main(["decode", "--json", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["damage"], found["packets"], found["unread"]) == (None, 18, {})
    assert found["connections"][0]["ends"][0]["how"] == "rst"
    assert found["connections"][2]["missing_bytes"] == 5
    assert found["sessions"] == [
        {
            "id": ID,
            "target": "/in/a",
            "total": 9,
            "received": 3,
            "end": None,
            "connections": [1],
            "exchanges": [1, 2, 3],
        }
    ]
    asked = found["exchanges"][1]["request"]
    assert (asked["method"], asked["target"]) == ("BITS_POST", "/in/a")
    assert asked["body"] == {
        "bytes": 3,
        "missing_bytes": 0,
        "complete": True,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }
    assert ["Host", "h"] in asked["fields"]
    assert found["exchanges"][2]["answer"] is None
    (part,) = found["exchanges"][3]["answer"]["parts"]
    assert part["fields"] == [["Content-Range", "bytes 0-1/9"]]
    assert found["exchanges"][4]["request"] is None
    assert found["findings"][0] == {
        "exchange": 4,
        "side": "server",
        "sentence": "no Last-Modified, which BITS compares",
        "section": "[MC-BUP] 3.5.5.1",
    }


def test_what_can_be_read_of_a_damaged_capture_is_shown(tmp_path: Path, capsys):
    path = write(tmp_path / "x.pcap", upload())
    path.write_bytes(path.read_bytes()[:-5])

    assert main(["decode", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "Fragment 0-2/9" in out
    assert err == (
        f"bitsd: {path}: the file ends inside a packet; "
        "9 packets were read before that\n"
    )


@pytest.mark.parametrize(
    ("octets", "told"),
    [
        (b"GET /", "not a pcap or pcapng file"),
        (b"\x1f\x8b\x08", "the gzip file ends too soon or is broken; 0 packets"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, capsys, octets: bytes | None, told: str
):
    path = tmp_path / "x.pcap"
    if octets is not None:
        path.write_bytes(octets)

    assert main(["decode", str(path)]) == 1
    _, err = capsys.readouterr()
    assert (err.count("\n"), told in err) == (1, True), err


def test_the_server_does_not_load_what_reads_captures():
    code = "import sys, bitsd.cli, bitsd.server; print('dpkt' in sys.modules)"

    assert run_child(code) == "False"
