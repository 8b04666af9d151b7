"""Real proxies: with the examples nothing is wrong, and each fault is found."""

from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from fronts import Edit, Product, front
from sites import Site, write
from yarl import URL

from bitsd.cli import main
from bitsd.client.options import Options
from bitsd.doctor.command import examine
from bitsd.doctor.hops import Hop
from bitsd.doctor.report import Findings, Result
from bitsd.doctor.verdicts import Symptom

SIZE = (1 << 20) + 2
OPTIONS = Options(timeout_seconds=10.0)


async def examined(url: str, file: str = "a.ckm", **how: object) -> Findings:
    """What is found of the directory `/in` there."""
    findings = Findings(lambda _finding: None)
    urls = (URL(f"{url}/in/"), URL(f"{url}/in/{file}"))
    assert await examine(urls, SIZE, replace(OPTIONS, **how), findings)
    return findings


def told(findings: Findings) -> list[tuple[Symptom, Hop | None, str]]:
    return [(each.symptom, each.hop, each.code) for each in findings.faults]


@pytest.fixture
def site_with_file(site: Site) -> Site:
    write(str(site.folder / "a.ckm"), bytes(range(256)) * 40)
    return site


@pytest.mark.parametrize("product", ["nginx", "apache", "haproxy"])
async def test_example_has_no_fault(
    product: Product, site_with_file: Site, tmp_path: Path
):
    async with front(product, site_with_file.host, tmp_path / "front") as url:
        findings = await examined(url)

    assert told(findings) == []
    results = {each.probe: each.result for each in findings.all}
    assert results == dict.fromkeys(PROBES, Result.OK) | {"pool": Result.NOTE}
    assert site_with_file.sessions == []
    assert [path.name for path in site_with_file.folder.glob("*.*")] == ["a.ckm"]


PROBES = ("name", "connect", "head", "ping", "keep-alive", "upstream", "errors")
PROBES += ("create", "fragments", "buffering", "file", "range", "suffix")
PROBES += ("20 ranges", "if-range", "replaced")


def nginx_with(line: str) -> Edit:
    """A directive more in the location."""
    return ("proxy_buffering off;", f"proxy_buffering off;\n{line}")


def apache_with(line: str) -> Edit:
    """A directive more in the virtual host."""
    return ("    KeepAlive On", f"    KeepAlive On\n{line}")


def frontend_with(line: str) -> Edit:
    return ("    option forwardfor", f"    option forwardfor\n    {line}")


def backend_with(line: str) -> Edit:
    return ("    timeout connect 5s", f"    timeout connect 5s\n    {line}")


OLD = [("proxy_http_version 1.1;", ""), ('proxy_set_header Connection "";', "")]
NOT_KEPT = [('proxy_set_header Connection "";', "")]
NOWHERE = ("server 127.0.0.1:8080;", "server 127.0.0.1:9;")
ERROR_PAGE = "proxy_intercept_errors on; error_page 500 /no-such-page;"
NO_TYPE = "proxy_hide_header BITS-Packet-Type;"
HIDES = "proxy_hide_header BITS-Session-Id;"
HIDES_OFFSET = "proxy_hide_header BITS-Received-Content-Range;"
LIMITED = nginx_with("limit_except GET HEAD { deny all; }")
PROTECTED = nginx_with('auth_basic "x"; auth_basic_user_file /dev/null;')
TOO_LARGE = """
RewriteEngine On
RewriteCond expr "%{HTTP:Content-Length} -gt 1000000"
RewriteRule ^ - [R=413]
"""
PROXY_PASS = "    ProxyPass / http://127.0.0.1:8080/ nocanon timeout=300\n"

#: What is broken where, and the symptom, the code and a word of the cure expected.
FAULTS: dict[str, tuple[Product, list[Edit], Symptom, str, str]] = {
    "nginx, body limit": (
        "nginx",
        [("client_max_body_size 0;", "")],
        Symptom.BODY_LIMIT,
        "0x8019019D",
        "client_max_body_size 0;",
    ),
    "nginx, buffering": (
        "nginx",
        [("proxy_request_buffering off;", "proxy_request_buffering on;")],
        Symptom.BUFFERED,
        "",
        "proxy_request_buffering off;",
    ),
    "nginx, HTTP/1.0": (
        "nginx",
        OLD,
        Symptom.OLD_UPSTREAM,
        "",
        "proxy_http_version 1.1;",
    ),
    "nginx, not kept": (
        "nginx",
        NOT_KEPT,
        Symptom.UPSTREAM_CLOSED,
        "",
        'proxy_set_header Connection "";',
    ),
    "nginx, clients not kept": (
        "nginx",
        [("listen 80;", "listen 80;\nkeepalive_timeout 0;")],
        Symptom.CLOSED,
        "",
        "keepalive_timeout",
    ),
    "nginx, no Range": (
        "nginx",
        [nginx_with('proxy_set_header Range "";')],
        Symptom.RANGE_LOST,
        "0x80200013",
        'proxy_set_header Range "";',
    ),
    "nginx, no Content-Range": (
        "nginx",
        [nginx_with("proxy_hide_header Content-Range;")],
        Symptom.NO_CONTENT_RANGE,
        "0x80200013",
        "proxy_hide_header Content-Range;",
    ),
    "nginx, no packet type back": (
        "nginx",
        [nginx_with(NO_TYPE)],
        Symptom.RESPONSE_FIELDS,
        "0x8020001B",
        "proxy_hide_header",
    ),
    "nginx, no session back": (
        "nginx",
        [nginx_with(HIDES)],
        Symptom.RESPONSE_FIELDS,
        "0x8020001B",
        "proxy_hide_header",
    ),
    "nginx, no offset back": (
        "nginx",
        [nginx_with(HIDES_OFFSET)],
        Symptom.RESPONSE_FIELDS,
        "0x8020001B",
        "proxy_hide_header",
    ),
    "nginx, no packet type on": (
        "nginx",
        [nginx_with('proxy_set_header BITS-Packet-Type "";')],
        Symptom.REQUEST_FIELDS,
        "0x80070057",
        "proxy_set_header",
    ),
    "nginx, error pages": (
        "nginx",
        [nginx_with(ERROR_PAGE)],
        Symptom.ERRORS_REPLACED,
        "0x801901F4",
        "proxy_intercept_errors off;",
    ),
    "nginx, a web server": (
        "nginx",
        [("proxy_pass http://bitsd;", "root /var/empty;")],
        Symptom.NOT_PASSED_ON,
        "0x80190195",
        "proxy_pass http://127.0.0.1:8080;",
    ),
    "nginx, methods": (
        "nginx",
        [LIMITED],
        Symptom.NOT_PASSED_ON,
        "0x80190193",
        "limit_except",
    ),
    "nginx, redirects": (
        "nginx",
        [nginx_with("return 301 https://example.org$request_uri;")],
        Symptom.REDIRECTED,
        "0x8019012D",
        "use the URL that it redirects to",
    ),
    "nginx, no bitsd": (
        "nginx",
        [NOWHERE],
        Symptom.BACKEND_DOWN,
        "0x801901F6",
        "upstream",
    ),
    "nginx, sign-in": ("nginx", [PROTECTED], Symptom.SIGN_IN, "0x80190191", "--user"),
    "Apache, body limit": (
        "apache",
        [apache_with(TOO_LARGE)],
        Symptom.BODY_LIMIT,
        "0x8019019D",
        "rewrite rules about Content-Length",
    ),
    "Apache, HTTP/1.0": (
        "apache",
        [apache_with("SetEnv force-proxy-request-1.0 1")],
        Symptom.OLD_UPSTREAM,
        "",
        "force-proxy-request-1.0",
    ),
    "Apache, not kept": (
        "apache",
        [apache_with("SetEnv proxy-nokeepalive 1")],
        Symptom.UPSTREAM_CLOSED,
        "",
        "proxy-nokeepalive",
    ),
    "Apache, clients not kept": (
        "apache",
        [("KeepAlive On", "KeepAlive Off")],
        Symptom.CLOSED,
        "",
        "KeepAlive On",
    ),
    "Apache, no Range": (
        "apache",
        [apache_with("RequestHeader unset Range")],
        Symptom.RANGE_LOST,
        "0x80200013",
        "RequestHeader unset Range",
    ),
    "Apache, no Content-Range": (
        "apache",
        [apache_with("Header unset Content-Range")],
        Symptom.NO_CONTENT_RANGE,
        "0x80200013",
        "Header unset Content-Range",
    ),
    "Apache, no session back": (
        "apache",
        [apache_with("Header unset BITS-Session-Id")],
        Symptom.RESPONSE_FIELDS,
        "0x8020001B",
        "Header unset",
    ),
    "Apache, error pages": (
        "apache",
        [apache_with("ProxyErrorOverride On")],
        Symptom.ERRORS_REPLACED,
        "0x801901F4",
        "ProxyErrorOverride Off",
    ),
    "Apache, a web server": (
        "apache",
        [(PROXY_PASS, "")],
        Symptom.NOT_PASSED_ON,
        "0x801901F5",
        "ProxyPass / http://127.0.0.1:8080/",
    ),
    "Apache, no bitsd": (
        "apache",
        [("127.0.0.1:8080", "127.0.0.1:9")],
        Symptom.BACKEND_DOWN,
        "0x801901F7",
        "ProxyPass",
    ),
    "HAProxy, body limit": (
        "haproxy",
        [
            frontend_with(
                "http-request deny deny_status 413 "
                "if { req.hdr(content-length) -m int gt 1000000 }"
            )
        ],
        Symptom.BODY_LIMIT,
        "0x8019019D",
        "http-request deny",
    ),
    "HAProxy, methods": (
        "haproxy",
        [frontend_with("http-request deny if ! METH_GET ! { method HEAD }")],
        Symptom.NOT_PASSED_ON,
        "0x80190193",
        "http-request deny",
    ),
    "HAProxy, not kept": (
        "haproxy",
        [backend_with("option http-server-close")],
        Symptom.UPSTREAM_CLOSED,
        "",
        "http-server-close",
    ),
    "HAProxy, clients not kept": (
        "haproxy",
        [("option http-keep-alive", "option httpclose")],
        Symptom.CLOSED,
        "",
        "option http-keep-alive",
    ),
    "HAProxy, no Range": (
        "haproxy",
        [backend_with("http-request del-header range")],
        Symptom.RANGE_LOST,
        "0x80200013",
        "http-request del-header range",
    ),
    "HAProxy, no Content-Range": (
        "haproxy",
        [backend_with("http-response del-header content-range")],
        Symptom.NO_CONTENT_RANGE,
        "0x80200013",
        "http-response del-header content-range",
    ),
    "HAProxy, no packet type on": (
        "haproxy",
        [backend_with("http-request del-header bits-packet-type")],
        Symptom.REQUEST_FIELDS,
        "0x80070057",
        "http-request del-header",
    ),
    "HAProxy, error pages": (
        "haproxy",
        [backend_with("http-response return status 500 if { status 500 }")],
        Symptom.ERRORS_REPLACED,
        "0x801901F4",
        "http-response return",
    ),
    "HAProxy, no bitsd": (
        "haproxy",
        [("127.0.0.1:8080", "127.0.0.1:9"), backend_with("retries 0")],
        Symptom.BACKEND_DOWN,
        "0x801901F7",
        "server",
    ),
}
HOPS = {"nginx": Hop.NGINX, "apache": Hop.APACHE, "haproxy": Hop.HAPROXY}


@pytest.mark.parametrize("name", FAULTS)
async def test_fault_is_found_with_its_hop_and_the_line_that_repairs_it(
    name: str, site_with_file: Site, tmp_path: Path
):
    product, edits, symptom, code, cure = FAULTS[name]
    async with front(product, site_with_file.host, tmp_path / "front", *edits) as url:
        findings = await examined(url)

    (fault,) = findings.faults
    assert (fault.symptom, fault.hop) == (symptom, HOPS[product])
    assert fault.code == code
    assert len(fault.cure) == 1
    assert cure in fault.cure[0]
    assert len(site_with_file.sessions) == ("no session back" in name)


async def test_one_run_finds_all_that_a_plain_nginx_does(
    site_with_file: Site, tmp_path: Path
):
    plain = [("client_max_body_size 0;", ""), ("proxy_request_buffering off;", "")]
    edits = [*plain, *OLD]
    async with front("nginx", site_with_file.host, tmp_path / "front", *edits) as url:
        findings = await examined(url)

    cures = " ".join(line for fault in findings.faults for line in fault.cure)
    assert {symptom for symptom, _hop, _code in told(findings)} == {
        *(Symptom.BODY_LIMIT, Symptom.OLD_UPSTREAM, Symptom.BUFFERED)
    }
    assert "proxy_request_buffering off;" in cures


SIGN_IN = """
users = "users"
[[listen]]
address = "127.0.0.1:0"
[[directory]]
url = "/in"
path = "in"
write = ["alice"]
authentication = ["negotiate", "ntlm"]
upload = true
"""


@pytest.fixture
def guarded_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server at which alice signs in by NTLM."""
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"wonderland\n")))
    users = str(tmp_path / "users")
    assert main(["passwd", "--ntlm", "--stdin", users, "alice"]) == 0
    (tmp_path / "in").mkdir()
    path = tmp_path / "bitsd.toml"
    path.write_text(SIGN_IN, "utf-8")
    return path


@pytest.fixture
async def guarded(guarded_config: Path) -> AsyncIterator[Site]:
    """That server."""
    site = Site(guarded_config)
    await site.start()
    yield site
    await site.stop()


ALICE = {"user": "alice", "password": "wonderland"}


@pytest.mark.parametrize("way", ["negotiate", "ntlm"])
async def test_server_that_signs_in_connections_has_no_fault(guarded: Site, way: str):
    write(str(guarded.folder / "a.ckm"), bytes(1000))
    findings = await examined(guarded.url, authentication=way, **ALICE)

    assert told(findings) == []


@pytest.mark.parametrize("product", ["nginx", "apache", "haproxy"])
async def test_sign_in_that_a_proxy_keeps_away_is_told(
    product: Product, guarded: Site, tmp_path: Path
):
    async with front(product, guarded.host, tmp_path / "front") as url:
        findings = await examined(url, **ALICE)

    assert told(findings)[0] == (Symptom.NO_SIGN_IN, Hop.SERVER, "0x80070005")
    assert "without the proxy" in findings.faults[0].cure[0]


async def test_apache_passes_on_what_is_larger_than_its_own_limit(
    site_with_file: Site, tmp_path: Path
):
    """So the directive that everybody names first is no cure."""
    limit = apache_with("LimitRequestBody 1000")
    async with front("apache", site_with_file.host, tmp_path / "front", limit) as url:
        findings = await examined(url)

    assert told(findings) == []


async def test_page_names_its_hop_behind_another(site_with_file: Site, tmp_path: Path):
    limit = ("client_max_body_size 0;", "")
    async with (
        front("nginx", site_with_file.host, tmp_path / "inner", limit) as inner,
        front("haproxy", inner.removeprefix("http://"), tmp_path / "outer") as url,
    ):
        findings = await examined(url)

    assert told(findings) == [(Symptom.BODY_LIMIT, Hop.NGINX, "0x8019019D")]


async def test_cures_of_both_are_told_where_two_may_be_at_fault(
    site_with_file: Site, tmp_path: Path
):
    async with (
        front("nginx", site_with_file.host, tmp_path / "inner", *NOT_KEPT) as inner,
        front("haproxy", inner.removeprefix("http://"), tmp_path / "outer") as url,
    ):
        findings = await examined(url)

    (fault,) = findings.faults
    assert (fault.symptom, fault.hop) == (Symptom.UPSTREAM_CLOSED, Hop.UNKNOWN)
    assert [line.partition(":")[0] for line in fault.cure] == [
        *("nginx", "Apache", "HAProxy", "another")
    ]
