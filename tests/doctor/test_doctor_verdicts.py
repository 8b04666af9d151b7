"""From answers to symptoms, hops and cures: tables."""

import pytest

from bitsd.codes import HRESULTS
from bitsd.doctor import judge
from bitsd.doctor.hops import Hop, author, in_front
from bitsd.doctor.line import Answer
from bitsd.doctor.verdicts import STATUS, VERDICTS, Symptom, cure
from bitsd.explain import explain

ACK = ("BITS-Packet-Type", "Ack")
EMPTY = ("Content-Length", "0")


def answer(status: int, *fields: tuple[str, str], body: bytes = b"") -> Answer:
    return Answer("HTTP/1.1", status, fields, body)


def server(name: str) -> tuple[str, str]:
    return ("Server", name)


NGINX_PAGE = (
    b"<html>\r\n<center><h1>405</h1></center>\r\n<hr><center>nginx/1.22.1</center>"
)
APACHE_PAGE = b'<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n<html><head>'
HAPROXY_PAGE = b"<html><body><h1>403 Forbidden</h1>\nRequest forbidden by adm"
IIS_PAGE = b"<h3>HTTP Error 404.13 - Not Found</h3>"


@pytest.mark.parametrize(
    ("seen", "hop"),
    [
        (answer(200, ACK, server("nginx")), Hop.SERVER),
        (answer(404, server("bitsd/0.1.0")), Hop.SERVER),
        (answer(405, server("nginx/1.22.1")), Hop.NGINX),
        (answer(405, body=NGINX_PAGE), Hop.NGINX),
        (answer(405, server("openresty")), Hop.NGINX),
        (answer(501, server("Apache/2.4.71 (Debian)")), Hop.APACHE),
        (answer(501, body=APACHE_PAGE), Hop.APACHE),
        (answer(502, server("bitsd/0.1.0"), body=APACHE_PAGE), Hop.APACHE),
        (answer(403, ("connection", "close"), body=HAPROXY_PAGE), Hop.HAPROXY),
        (answer(200, server("Caddy")), Hop.CADDY),
        (answer(501, server("lighttpd/1.4.69")), Hop.LIGHTTPD),
        (answer(404, server("Microsoft-IIS/10.0")), Hop.IIS),
        (answer(404, body=IIS_PAGE), Hop.IIS),
        (answer(411, server("squid/5.7")), Hop.SQUID),
        (answer(400, server("Python/3.11 aiohttp/3.14.5")), Hop.AIOHTTP),
        (answer(400, ("Connection", "close")), Hop.NODE),
        (answer(404, body=b"404 page not found\n"), Hop.TRAEFIK),
        (answer(403, server("cloudflare")), Hop.CDN),
        (answer(403, server("something")), Hop.UNKNOWN),
    ],
    ids=str,
)
def test_who_wrote_an_answer(seen: Answer, hop: Hop):
    assert author(seen) is hop


@pytest.mark.parametrize(
    ("seen", "hop"),
    [
        ([], None),
        ([answer(405, server("nginx"))], None),
        ([answer(200, ACK, server("bitsd/0.1.0"))], None),
        ([answer(404, server("x")), answer(200, ACK, server("nginx"))], Hop.NGINX),
        ([answer(200, ("Date", "x"), server("bitsd/0.1.0"), ACK)], Hop.APACHE),
        ([answer(200, ACK, ("Keep-Alive", "timeout=5"))], Hop.APACHE),
        ([answer(200, ("bits-packet-type", "Ack"))], Hop.HAPROXY),
        ([answer(200, ACK, ("Via", "1.1 here (squid/5.7)"))], Hop.SQUID),
        ([answer(200, ACK, ("Via", "1.1 here"))], Hop.UNKNOWN),
        ([answer(200, ("bits-packet-type", "Ack"), ("server", "nginx"))], Hop.UNKNOWN),
    ],
    ids=str,
)
def test_what_stands_in_front(seen: list[Answer], hop: Hop | None):
    assert in_front(seen) is hop


def coded(status: int, code: str) -> Answer:
    return answer(status, ACK, EMPTY, ("BITS-Error", code))


@pytest.mark.parametrize(
    ("seen", "symptom"),
    [
        (answer(200, ACK, EMPTY), None),
        (answer(400, ACK, EMPTY), Symptom.REQUEST_FIELDS),
        (answer(401, ACK), Symptom.SIGN_IN),
        (answer(401), Symptom.SIGN_IN),
        (coded(403, "0x80070005"), Symptom.NOT_ALLOWED),
        (answer(404, ACK), Symptom.NO_FOLDER),
        (answer(408, ACK), Symptom.BODY_CUT),
        (coded(411, "0x80070057"), Symptom.LENGTH_LOST),
        (answer(500, ACK), Symptom.SERVER_FAILED),
        (coded(500, "0x80200020"), Symptom.FILE_LIMIT),
        (coded(500, "no number"), Symptom.SERVER_FAILED),
        (coded(501, "0x80070005"), Symptom.UPLOADS_OFF),
        (answer(503, ACK), Symptom.BUSY),
        (answer(302), Symptom.REDIRECTED),
        (answer(413), Symptom.BODY_LIMIT),
        (answer(404, body=IIS_PAGE), Symptom.BODY_LIMIT),
        (answer(502), Symptom.BACKEND_DOWN),
        (answer(503), Symptom.BACKEND_DOWN),
        (answer(504), Symptom.BACKEND_DOWN),
        (answer(405, server("nginx"), body=NGINX_PAGE), Symptom.NOT_PASSED_ON),
        (answer(501, server("lighttpd")), Symptom.NOT_PASSED_ON),
        (answer(200, ("Content-Type", "text/html"), EMPTY), Symptom.NOT_PASSED_ON),
        (answer(200, server("Caddy"), EMPTY), Symptom.NOT_PASSED_ON),
        (answer(200, server("nginx"), EMPTY), Symptom.RESPONSE_FIELDS),
        (answer(500, ("BITS-Error", "0x8020001F")), Symptom.RESPONSE_FIELDS),
    ],
    ids=str,
)
def test_what_an_answer_to_a_packet_means(seen: Answer, symptom: Symptom | None):
    assert judge.unwanted(seen) is symptom


@pytest.mark.parametrize(
    ("seen", "symptom"),
    [
        (coded(500, "0x8020001F"), None),
        (answer(500, ACK), Symptom.RESPONSE_FIELDS),
        (coded(500, "0x80070057"), Symptom.SERVER_FAILED),
        (answer(500, body=NGINX_PAGE), Symptom.ERRORS_REPLACED),
    ],
    ids=str,
)
def test_what_the_refusal_of_a_session_means(seen: Answer, symptom: Symptom | None):
    assert judge.of_unknown_session(seen) is symptom


PART = ("Content-Range", "bytes 1-3/9")
LENGTH = ("Content-Length", "3")
GZIP = ("Content-Encoding", "gzip")


@pytest.mark.parametrize(
    ("seen", "symptom"),
    [
        (answer(206, PART, LENGTH, body=b"abc"), None),
        (answer(200, LENGTH, body=b"abc"), Symptom.NO_RANGES),
        (answer(206, LENGTH, body=b"abc"), Symptom.NO_CONTENT_RANGE),
        (answer(206, PART, body=b"abc"), Symptom.NO_LENGTH),
        (answer(206, PART, LENGTH, body=b"ab"), Symptom.WRONG_RANGES),
        (
            answer(206, ("Content-Range", "bytes 1-4/9"), LENGTH, body=b"abc"),
            Symptom.WRONG_RANGES,
        ),
        (answer(206, PART, LENGTH, GZIP, body=b"abc"), Symptom.ENCODED),
        (answer(401), Symptom.SIGN_IN),
        (answer(404), Symptom.NO_FILE),
    ],
    ids=str,
)
def test_what_an_answer_for_a_part_means(seen: Answer, symptom: Symptom | None):
    assert judge.of_range(seen, (1, 3), 9) is symptom


MANY = ("Content-Type", "multipart/byteranges; boundary=x")
PARTS = b"Content-Range: bytes 0-0/9\r\n\r\na\r\nCONTENT-RANGE: bytes 3-3/9\r\n\r\nb"


@pytest.mark.parametrize(
    ("seen", "symptom"),
    [
        (answer(206, MANY, LENGTH, body=PARTS), None),
        (answer(206, MANY, LENGTH, body=PARTS[:30]), Symptom.WRONG_RANGES),
        (answer(206, MANY, body=PARTS), Symptom.NO_LENGTH),
        (answer(206, PART, LENGTH, body=b"abc"), Symptom.WRONG_RANGES),
        (answer(200, LENGTH, body=b"abc"), Symptom.NO_RANGES),
        (answer(206, MANY, LENGTH, GZIP, body=PARTS), Symptom.ENCODED),
    ],
    ids=str,
)
def test_what_an_answer_for_parts_means(seen: Answer, symptom: Symptom | None):
    assert judge.of_ranges(seen, [(0, 0), (3, 3)], 9) is symptom


@pytest.mark.parametrize(
    ("seen", "symptom"),
    [
        (answer(200, LENGTH), None),
        (answer(200), Symptom.NO_LENGTH),
        (answer(200, ("Content-Length", "4")), Symptom.WRONG_RANGES),
        (answer(206, LENGTH), Symptom.WRONG_RANGES),
        (answer(200, GZIP), Symptom.ENCODED),
        (answer(403), Symptom.NO_FILE),
    ],
    ids=str,
)
def test_what_an_answer_for_a_whole_file_means(seen: Answer, symptom: Symptom | None):
    assert judge.of_whole(seen, 3) is symptom


def test_every_symptom_has_a_verdict():
    assert VERDICTS.keys() == set(Symptom)


@pytest.mark.parametrize("symptom", Symptom)
def test_every_code_of_a_verdict_can_be_explained(symptom: Symptom):
    code = VERDICTS[symptom].code

    assert code in ("", STATUS) or explain(code) is not None
    assert code[:6] != "0x8007" or int(code, 16) in HRESULTS


def test_cure_is_that_of_the_hop():
    lines = cure(Symptom.BODY_LIMIT, Hop.NGINX)

    assert lines == ["nginx: `client_max_body_size 0;` in the server block"]


@pytest.mark.parametrize("hop", [None, Hop.UNKNOWN])
def test_cures_are_those_of_all_where_the_hop_is_unknown(hop: Hop | None):
    lines = cure(Symptom.OLD_UPSTREAM, hop)

    assert [line.partition(":")[0] for line in lines] == ["nginx", "Apache", "another"]


def test_cure_of_the_server_itself_is_one_line():
    assert cure(Symptom.UPLOADS_OFF, Hop.SERVER) == [VERDICTS[Symptom.UPLOADS_OFF].cure]
