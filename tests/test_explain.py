import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitsd.codes import HRESULTS, Retry
from bitsd.explain import ACCEPTED, explain, retry
from bitsd.protocol.refusal import Hresult, Reason


def told(code: str) -> str:
    text = explain(code)
    assert text is not None, code
    return text


def line(text: str, label: str) -> str:
    joined = text.replace("\n" + " " * 14, " ")
    rows = [row for row in joined.splitlines() if row.startswith(f"  {label}")]
    assert len(rows) == 1, text
    return rows[0][14:]


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name.lower())
def test_every_reason_of_the_log_is_explained(reason):
    text = told(reason.name.lower())

    assert f"HTTP {reason.status}" in text.splitlines()[0]
    assert reason.sentence[1:] in line(text, "Meaning")
    assert line(text, "What to do")


@pytest.mark.parametrize("hresult", Hresult, ids=lambda hresult: hresult.name.lower())
def test_every_hresult_that_bitsd_sends_is_explained(hresult):
    text = told(f"0x{hresult:08X}")

    assert f"0x{hresult:08X}" in text.splitlines()[0]


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name.lower())
def test_every_status_that_bitsd_sends_names_the_reasons_in_its_log(reason):
    text = told(str(reason.status))

    assert reason.name.lower() in line(text, "In the log").split(", ")


@pytest.mark.parametrize("hresult", HRESULTS, ids=hex)
def test_every_hresult_of_the_table_is_found_by_number_and_by_name(hresult):
    text = told(f"0x{hresult:08X}")

    assert told(f"{hresult:08x}") == text
    assert told(str(hresult - 2**32)) == text
    assert told(str(hresult)) == text
    assert told(HRESULTS[hresult].name) == text
    assert told(HRESULTS[hresult].name.lower()) == text


def test_names_in_the_table_are_unique():
    names = [entry.name.lower() for entry in HRESULTS.values()]
    reasons = [reason.name.lower() for reason in Reason]

    assert len(set(names + reasons)) == len(names) + len(reasons)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("0x8020001F", "8020001F", id="without 0x"),
        pytest.param("0x8020001F", "-2145386465", id="signed, as PowerShell prints"),
        pytest.param("0x8020001F", "0X8020001f", id="any case"),
        pytest.param("0x8020001F", "BG_E_SESSION_NOT_FOUND", id="name"),
        pytest.param("0x8020001F", "  0x8020001F\n", id="pasted with white space"),
        pytest.param("403", "0x80190193", id="BG_E_HTTP_ERROR and a status"),
        pytest.param("403", "-2145844845", id="the same, signed"),
        pytest.param("403", "BG_E_HTTP_ERROR_403", id="the same, by name"),
        pytest.param("403", "HTTP 403", id="as people write it"),
        pytest.param("exists", "EXISTS", id="a reason in any case"),
    ],
)
def test_spellings_of_one_code_give_one_explanation(first, second):
    assert told(second) == told(first)


STATUSES = (
    *(200, 400, 401, 403, 404, 405, 407, 408, 409, 411, 412, 413, 416),
    *(500, 501, 502, 503, 504, 505),
)


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_that_matters_has_words_of_its_own(status):
    assert line(told(str(status)), "Meaning") != line(told("418"), "Meaning")


@pytest.mark.parametrize("status", [302, 410, 414, 429, 507])
def test_a_status_that_bitsd_never_sends_points_at_others(status):
    assert "a proxy or gateway" in line(told(str(status)), "Caused by")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (302, Retry.NO),
        (308, Retry.YES),
        (400, Retry.NO),
        (401, Retry.CREDENTIALS),
        (403, Retry.NO),
        (404, Retry.NO),
        (407, Retry.CREDENTIALS),
        (408, Retry.YES),
        (409, Retry.YES),
        (411, Retry.NO),
        (413, Retry.SMALLER),
        (416, Retry.RESUMES),
        (499, Retry.NO),
        (500, Retry.YES),
        (501, Retry.NO),
        (503, Retry.YES),
        (505, Retry.NO),
    ],
)
def test_retries_follow_the_published_list(status, expected):
    assert retry(status) is expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("session_not_found", Retry.NEW_SESSION),
        ("too_large", Retry.NO),
        ("disk_full", Retry.YES),
        ("storage_failed", Retry.YES),
        ("uploads_disabled", Retry.NO),
        ("out_of_sync", Retry.RESUMES),
        ("too_many_sessions", Retry.YES),
        ("application_failed", Retry.BY_STATUS),
    ],
)
def test_a_code_in_the_ack_outranks_its_status(reason, expected):
    assert line(told(reason), "Retried") == expected.value


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("413", "client_max_body_size 0;"),
        ("405", "proxy_pass"),
        ("408", "proxy_request_buffering off;"),
        ("411", "proxy_http_version 1.1;"),
        ("502", 'proxy_set_header Connection "";'),
        ("501", "upload = true"),
        ("exists", "overwrite = true"),
        ("too_large", "maximum_upload_size"),
        ("0x80072F0C", "client_ca"),
        ("0x800704DD", "upload with curl"),
    ],
)
def test_the_advice_is_what_an_admin_types(code, advice):
    assert advice in line(told(code), "What to do")


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("", id="nothing"),
        pytest.param("0x80209999", id="no such HRESULT"),
        pytest.param("0x801903E7", id="no such status in an HRESULT"),
        pytest.param("999", id="no such status"),
        pytest.param("-9999999999", id="more than 32 bits"),
        pytest.param("٤١٣", id="digits of another script"),
        pytest.param("BG_E_NO_SUCH_NAME", id="no such name"),
        pytest.param("exists!", id="a reason and more"),
    ],
)
def test_an_unknown_code_is_none(code):
    assert explain(code) is None


@given(st.text() | st.integers().map(str) | st.integers().map(hex))
@example("\ud800")
@example("-2147483649")
@example("0x" + "F" * 5000)
@example("9" * 5000)
def test_any_string_is_explained_or_none(code):
    text = explain(code)

    assert text is None or len(text.splitlines()) >= 5


def test_what_is_accepted_fits_one_line_and_its_examples_work():
    assert "\n" not in ACCEPTED
    for example_ in ("0x8020001F", "8020001F", "-2145386465", "413", "exists"):
        assert example_ in ACCEPTED
        assert explain(example_) is not None


@pytest.mark.parametrize("code", [*map(hex, HRESULTS), *map(str, STATUSES)])
def test_no_line_but_the_heading_is_wider_than_a_terminal(code):
    assert all(len(row) <= 80 for row in told(code).splitlines()[1:])
