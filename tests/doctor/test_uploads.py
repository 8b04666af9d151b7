"""What is found of servers, good ones and others, with no proxy between."""

import re
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
import spnego
from clinic import ID, OPTIONS, Bits, always, examined, symptoms, told
from scripted import HANG_UP, SILENCE, Asked, ack, answer, scripted
from sites import Serve, Site, read, write
from yarl import URL

from bitsd.arrival import FIELD
from bitsd.doctor import uploads
from bitsd.doctor.downloads import Downloads
from bitsd.doctor.hops import Hop
from bitsd.doctor.line import Answer
from bitsd.doctor.patient import Patient
from bitsd.doctor.report import Findings, Result
from bitsd.doctor.verdicts import Symptom


def names(site: Site) -> set[str]:
    return {path.name for path in site.folder.iterdir()} - {"BITS-Sessions"}


# A bitsd.


async def test_well_bitsd_has_no_fault_and_nothing_is_left(site: Site):
    reached, findings = await examined(f"{site.url}/in/")

    assert reached
    assert symptoms(findings) == []
    assert told(findings, "download").startswith("skipped")
    assert site.sessions == []
    assert names(site) == set()


async def test_file_that_is_there_is_read_and_never_replaced(serve: Serve):
    site = await serve(directory="overwrite = true")
    path = str(site.folder / "a.ckm")
    write(path, bytes(1000))
    _reached, findings = await examined(f"{site.url}/in/a.ckm")

    assert {each.result for each in findings.all} == {Result.OK}
    assert told(findings, "20 ranges") == "ok: 206, as asked for"
    assert read(path) == bytes(1000)
    assert names(site) == {"a.ckm"}


async def test_file_that_is_not_there_is_not_made(site: Site):
    _reached, findings = await examined(f"{site.url}/in/new.ckm?query")

    assert symptoms(findings) == []
    assert names(site) == set()


async def test_small_file_has_no_parts_to_test(site: Site):
    write(str(site.folder / "a"), bytes(9))
    _reached, findings = await examined(f"{site.url}/in/", f"{site.url}/in/a")

    assert told(findings, "ranges") == "skipped: the file has less than 64 bytes"


async def test_file_that_is_named_comes_before_that_of_the_url(site: Site):
    write(str(site.folder / "a"), bytes(9))
    write(str(site.folder / "b"), bytes(1000))
    _reached, findings = await examined(f"{site.url}/in/a", f"{site.url}/in/b")

    assert told(findings, "file") == "ok: 1000 bytes"


async def test_file_that_is_not_there_is_told(site: Site):
    _reached, findings = await examined(f"{site.url}/in/", f"{site.url}/in/a")
    (fault,) = findings.faults

    assert (fault.symptom, fault.hop, fault.code) == (
        *(Symptom.NO_FILE, None),
        "0x80190194",
    )


@pytest.mark.parametrize(
    ("directory", "target", "symptom"),
    [
        ("write = []", "/in/", Symptom.NOT_ALLOWED),
        ("", "/other/", Symptom.NO_FOLDER),
        ("", "/in/no/such/", Symptom.NO_FOLDER),
        ('minimum_free_space = "1000TB"', "/in/", Symptom.BUSY),
    ],
)
async def test_what_a_bitsd_does_not_allow_is_told(
    serve: Serve, directory: str, target: str, symptom: Symptom
):
    setting = directory.partition(" ")[0]
    if setting == "write":
        site = await serve(top="allow_anonymous_uploads = false")
        await site.stop()
        text = site.config.read_text().replace('write = ["*"]', directory)
        write(str(site.config), text.encode())
        await site.start()
    else:
        site = await serve(directory=directory)
    _reached, findings = await examined(f"{site.url}{target}")
    (fault,) = findings.faults

    assert (fault.symptom, fault.hop) == (symptom, Hop.SERVER)
    assert site.sessions == []


@pytest.mark.parametrize(
    ("limit", "note"),
    [
        (
            1_500_000,
            "uploads of 1600002 bytes are refused, of 1048579 not: maximum_upload_size",
        ),
        (100_000, "uploads of 1048579 bytes are refused, of 65538 not"),
        (1000, "uploads of 65538 bytes are refused: maximum_upload_size"),
    ],
)
async def test_limit_of_a_bitsd_is_a_note(serve: Serve, limit: int, note: str):
    site = await serve(directory=f"maximum_upload_size = {limit}")
    _reached, findings = await examined(f"{site.url}/in/", size=1_600_000)

    assert symptoms(findings) == []
    assert told(findings, "fragments").startswith(f"note: {note}")
    assert told(findings, "buffering").startswith("ok" if limit > 65_538 else "skip")
    assert site.sessions == []


async def test_uploads_that_are_off_are_told(site: Site):
    await site.stop()
    write(
        str(site.config), site.config.read_text().replace("upload = true", "").encode()
    )
    await site.start()
    _reached, findings = await examined(f"{site.url}/in/")
    (fault,) = findings.faults

    assert (fault.symptom, fault.code) == (Symptom.UPLOADS_OFF, "0x80070005")
    assert fault.cure == ["`upload = true` in the [[directory]] of this URL"]


async def test_download_that_breaks_off_is_told():
    head = always(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    async with scripted(Bits({"HEAD": head, "GET": always(HANG_UP)})) as server:
        _reached, findings = await examined(f"{server.url}/in/a")
    (fault,) = findings.faults

    assert fault.symptom is Symptom.NO_ANSWER
    assert told(findings, "download").startswith("fault")


@pytest.mark.parametrize(
    ("tag", "sent"), [('"a"', '"a"'), ('W/"a"', "yesterday"), ("", "yesterday")]
)
async def test_if_range_has_what_proves_that_bytes_are_the_same(tag: str, sent: str):
    head = Answer("HTTP/1.1", 200, [("ETag", tag), ("Last-Modified", "yesterday")])
    async with scripted(Bits()) as server:
        patient = Patient(URL(server.url), OPTIONS, None)
        await Downloads(patient, Findings(lambda _finding: None))._same(99, head)

    assert [each.get("If-Range") for each in server.asked] == [sent]


# Another BITS server.


async def test_well_server_that_is_no_bitsd_has_no_fault():
    async with scripted(Bits()) as server:
        _reached, findings = await examined(f"{server.url}/in/")

    assert symptoms(findings) == []
    assert told(findings, "upstream").startswith("skipped: the server does not tell")
    assert told(findings, "buffering").startswith("ok")


async def test_what_another_server_does_not_keep_is_no_fault():
    async with scripted(Bits(keeps=0)) as server:
        _reached, findings = await examined(f"{server.url}/in/")

    assert symptoms(findings) == []
    assert "or is kept by the server" in told(findings, "buffering")


async def test_no_packet_completes_an_upload():
    async with scripted(Bits()) as server:
        await examined(f"{server.url}/in/")

    spans = [span.removeprefix("bytes ") for span in server.spans]
    ends = [(span.partition("-")[2].partition("/")) for span in spans]
    assert spans
    assert all(int(last) < int(total) - 1 for last, _slash, total in ends)
    assert "Close-Session" in server.packets
    assert ID not in {
        a.get("BITS-Session-Id") for a in server.asked if a.packet == "Close-Session"
    }


UNKNOWN = [
    ("Ping", answer(405), Symptom.NOT_PASSED_ON, "0x80190195"),
    (
        "Ping",
        answer(200, ("Content-Type", "text/html"), body=b"hi"),
        Symptom.NOT_PASSED_ON,
        "0x801900C8",
    ),
    ("Ping", answer(307, ("Location", "x")), Symptom.REDIRECTED, "0x80190133"),
    ("Ping", HANG_UP, Symptom.NO_ANSWER, "0x80072EFE"),
    ("Ping", b"what?\r\n\r\n", Symptom.NO_ANSWER, "0x80072EFE"),
    ("Ping", answer(401), Symptom.SIGN_IN, "0x80190191"),
    ("HEAD", HANG_UP, Symptom.NO_ANSWER, "0x80072EFE"),
    ("Close-Session", HANG_UP, Symptom.NO_ANSWER, "0x80072EFE"),
    ("Close-Session", answer(500), Symptom.ERRORS_REPLACED, "0x801901F4"),
    ("Close-Session", ack(500), Symptom.RESPONSE_FIELDS, "0x8020001B"),
    ("Create-Session", HANG_UP, Symptom.NO_ANSWER, "0x80072EFE"),
    ("Create-Session", ack(500), Symptom.SERVER_FAILED, "0x801901F4"),
    (
        "Create-Session",
        ack(200, ("BITS-Session-Id", ID)),
        Symptom.RESPONSE_FIELDS,
        "0x8020001B",
    ),
    ("Fragment", HANG_UP, Symptom.BODY_CUT, "0x80072EFE"),
    ("Fragment", ack(200), Symptom.RESPONSE_FIELDS, "0x8020001B"),
    (
        "Fragment",
        ack(200, ("BITS-Received-Content-Range", "1")),
        Symptom.SERVER_FAILED,
        "0x801900C8",
    ),
]


@pytest.mark.parametrize(
    ("kind", "said", "symptom", "code"),
    UNKNOWN,
    ids=[f"{row[0]}-{row[2].value}-{row[3]}" for row in UNKNOWN],
)
async def test_what_is_wrong_with_an_answer_is_told(
    kind: str, said: bytes, symptom: Symptom, code: str
):
    bits = Bits({kind: always(said)})
    async with scripted(bits) as server:
        _reached, findings = await examined(f"{server.url}/in/")
    (fault,) = findings.faults

    assert (fault.symptom, fault.code) == (symptom, code)
    created = server.packets.count("Create-Session")
    assert kind == "Create-Session" or bits.gone == created


@pytest.mark.parametrize("kind", ["Ping", "Fragment"])
async def test_silence_is_told(kind: str):
    async with scripted(Bits({kind: always(SILENCE)})) as server:
        _reached, findings = await examined(f"{server.url}/in/", timeout_seconds=0.2)

    assert symptoms(findings) == [Symptom.NO_ANSWER]


async def test_session_that_cannot_be_cancelled_is_told():
    async with scripted(Bits({"Cancel-Session": always(ack(500))})) as server:
        _reached, findings = await examined(f"{server.url}/in/")

    assert told(findings, "cancel") == f"note: session {ID} stays until it times out"


async def test_connection_that_ends_after_each_answer_is_told():
    closing = ack(200, ("Connection", "close"))
    async with scripted(Bits({"Ping": always(closing)})) as server:
        _reached, findings = await examined(f"{server.url}/in/")

    assert symptoms(findings) == [Symptom.CLOSED]


def arriving(*arrivals: str) -> Bits:
    """A server that answers so when it is asked how a Ping arrived, in turn."""
    left = iter(arrivals)

    def ping(asked: Asked) -> bytes:
        asks = asked.get(FIELD) is not None
        return ack(200, (FIELD, next(left))) if asks else ack()

    return Bits({"Ping": ping})


SHARED = ["1.1 keep a range", "1.1 keep a range"] * 3


async def test_shared_connections_are_a_note_without_sign_in():
    async with scripted(arriving(*SHARED)) as server:
        _reached, findings = await examined(f"{server.url}/in/")

    assert symptoms(findings) == []
    assert told(findings, "pool").startswith("note: connections to the server are")


async def test_connection_that_changes_its_server_is_shared():
    marks = [f"1.1 keep {mark} range" for mark in "abcbab"]
    async with scripted(arriving(*marks)) as server:
        _reached, findings = await examined(f"{server.url}/in/")

    assert told(findings, "pool").startswith("note")


async def test_arrivals_that_break_off_are_skipped():
    def ping(asked: Asked) -> bytes:
        return HANG_UP if asked.get(FIELD) is not None else ack()

    async with scripted(Bits({"Ping": ping})) as server:
        _reached, findings = await examined(f"{server.url}/in/")

    assert told(findings, "upstream") == (
        "skipped: the connection was closed without an answer"
    )


async def test_server_that_does_not_tell_what_it_holds_is_skipped():
    def fragment(asked: Asked) -> bytes:
        gap = (asked.span or "").startswith("bytes 1048576-")
        return ack(400) if gap else bits.fragment(asked)

    bits = Bits({"Fragment": fragment})
    async with scripted(bits) as server:
        _reached, findings = await examined(f"{server.url}/in/")

    assert told(findings, "buffering") == "skipped: the server does not tell"


async def test_gap_that_is_not_answered_is_skipped():
    def fragment(asked: Asked) -> bytes:
        gap = (asked.span or "").startswith("bytes 1048576-")
        return HANG_UP if gap else bits.fragment(asked)

    bits = Bits({"Fragment": fragment})
    async with scripted(bits) as server:
        _reached, findings = await examined(f"{server.url}/in/")

    assert told(findings, "buffering").startswith("skipped: the connection was closed")


# Sign-in.


class Guarded(Bits):
    """A server that signs in each connection, or each request."""

    def __init__(self, scheme: str, bits: Bits | None = None) -> None:
        super().__init__()
        self.scheme = scheme
        self.bits = bits or Bits()
        self.contexts: dict[int, spnego.ContextProxy] = {}

    def __call__(self, asked: Asked) -> bytes | None:
        if asked.method == "HEAD" or self.signed_in(asked):
            return self.bits(asked)
        scheme, _, token = (asked.get("Authorization") or "").partition(" ")
        if not token or scheme != self.scheme or scheme == "Basic":
            return answer(401, ("WWW-Authenticate", self.scheme))
        context = self.contexts.setdefault(
            asked.connection, spnego.server(protocol=scheme.lower())
        )
        try:
            said = b64encode(context.step(b64decode(token)) or b"").decode()
        except (spnego.exceptions.SpnegoError, ValueError):
            del self.contexts[asked.connection]
            return answer(401, ("WWW-Authenticate", self.scheme))
        if context.complete:
            return self.bits(asked)
        return answer(401, ("WWW-Authenticate", f"{self.scheme} {said}"))

    def signed_in(self, asked: Asked) -> bool:
        context = self.contexts.get(asked.connection)
        known = "Basic " + b64encode(b"alice:secret").decode()
        return (context is not None and context.complete) or (
            self.scheme == "Basic" and asked.get("Authorization") == known
        )


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom the server knows."""
    write(str(tmp_path / "users"), b":alice:secret\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(tmp_path / "users"))


ALICE = {"user": "alice", "password": "secret"}


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("scheme", ["Basic", "NTLM", "Negotiate"])
async def test_server_is_examined_by_whoever_signs_in(scheme: str):
    async with scripted(Guarded(scheme)) as server:
        _reached, findings = await examined(f"{server.url}/in/", **ALICE)

    assert symptoms(findings) == []
    assert told(findings, "fragments").startswith("ok")


@pytest.mark.usefixtures("users")
async def test_wrong_password_is_told_with_the_ways_that_there_are():
    async with scripted(Guarded("NTLM")) as server:
        _reached, findings = await examined(
            f"{server.url}/in/", user="alice", password="wrong"
        )

    assert symptoms(findings) == [Symptom.SIGN_IN]
    assert told(findings, "ping").endswith("answered 401, ways to sign in: ntlm")


async def test_basic_that_is_refused_is_told():
    async with scripted(Guarded("Basic")) as server:
        _reached, findings = await examined(
            f"{server.url}/in/", user="alice", password="wrong"
        )

    assert symptoms(findings) == [Symptom.SIGN_IN]


async def test_sign_in_that_cannot_begin_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NTLM_USER_FILE", raising=False)
    async with scripted(Guarded("NTLM")) as server:
        _reached, findings = await examined(f"{server.url}/in/", user="", password="")

    assert symptoms(findings) == [Symptom.SIGN_IN]
    assert "ntlm does not work" in told(findings, "ping")


@pytest.mark.usefixtures("users")
async def test_shared_connections_are_a_fault_of_whoever_signs_in_connections():
    guarded = Guarded("NTLM", arriving(*SHARED))
    async with scripted(guarded) as server:
        _reached, findings = await examined(f"{server.url}/in/", **ALICE)

    assert Symptom.POOLED in symptoms(findings)


# Names and sizes.


@pytest.mark.parametrize(
    ("target", "taken", "expected"),
    [
        ("/in/a.7z", False, r"/in/a\.7z"),
        ("/in/a.7z?x=/", False, r"/in/a\.7z\?x=/"),
        ("/in/a.7z?x=/", True, r"/in/bitsd-doctor-[0-9a-f]{12}\.tmp\?x=/"),
        ("/in/", False, r"/in/bitsd-doctor-[0-9a-f]{12}\.tmp"),
        ("/", False, r"/bitsd-doctor-[0-9a-f]{12}\.tmp"),
    ],
)
def test_name_of_the_test_is_that_of_no_file(
    target: str, expected: str, *, taken: bool
):

    assert re.fullmatch(expected, uploads.unused(target, taken=taken))


@pytest.mark.parametrize(
    ("most", "sizes"),
    [
        (1, [1]),
        (1 << 16, [1 << 16]),
        (16_000_000, [1 << 16, (1 << 20) + 1, 8 << 20, 13 << 20, 16_000_000]),
    ],
)
def test_fragments_grow_up_to_the_largest(most: int, sizes: list[int]):
    assert uploads.sizes(most) == sizes


@pytest.mark.parametrize("size", [1, 65_536, 65_537, 200_000])
def test_pieces_are_as_long_as_the_body(size: int):
    assert sum(map(len, uploads._pieces(size))) == size
