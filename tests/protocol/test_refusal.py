import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsd.protocol.refusal import Context, Hresult, Reason, Refusal
from bitsd.protocol.wire import Ack

E_ACCESSDENIED = "0x80070005"
E_INVALIDARG = "0x80070057"
ERROR_DISK_FULL = "0x80070070"
BG_E_REMOTE_PROGRAM = "0x8020001E"
BG_E_SESSION_NOT_FOUND = "0x8020001F"
BG_E_TOO_LARGE = "0x80200020"

SERVER, APPLICATION = "0x5", "0x7"

# [MC-BUP] 2.2.1.2 written out once more, from the specification and not from the
# code: what the Ack of each refusal says. Rows without a code are plain HTTP.
TOLD = {
    "MALFORMED": (400, E_INVALIDARG, SERVER),
    "IS_A_FOLDER": (400, E_INVALIDARG, SERVER),
    "REPLY_URL_TOO_LONG": (400, E_INVALIDARG, APPLICATION),
    "SIGN_IN": (401, None, None),
    "NOT_PERMITTED": (403, E_ACCESSDENIED, SERVER),
    "ACCESS_DENIED": (403, E_ACCESSDENIED, SERVER),
    "EXISTS": (403, E_ACCESSDENIED, SERVER),
    "NO_FOLDER": (404, None, None),
    "ENTITY_GONE": (404, None, None),
    "STALLED": (408, None, None),
    "CUT_OFF": (408, None, None),
    "APPLICATION_TIMEOUT": (408, BG_E_REMOTE_PROGRAM, APPLICATION),
    "SUPERSEDED": (409, None, None),
    "LENGTH_REQUIRED": (411, E_INVALIDARG, SERVER),
    "REPLY_MALFORMED": (411, E_INVALIDARG, APPLICATION),
    "OUT_OF_SYNC": (416, None, None),
    "SESSION_NOT_FOUND": (500, BG_E_SESSION_NOT_FOUND, SERVER),
    "TOO_LARGE": (500, BG_E_TOO_LARGE, SERVER),
    "DISK_FULL": (500, ERROR_DISK_FULL, SERVER),
    "STORAGE_FAILED": (500, None, None),
    "APPLICATION_FAILED": (500, BG_E_REMOTE_PROGRAM, APPLICATION),
    "INTERNAL": (500, None, None),
    "UPLOADS_DISABLED": (501, E_ACCESSDENIED, SERVER),
    "TOO_MANY_FAILURES": (503, None, None),
    "TOO_MANY_SESSIONS": (503, None, None),
    "SPOOL_FULL": (503, None, None),
    "TOO_MANY_REQUESTS": (503, None, None),
    "LOW_SPACE": (503, None, None),
    "STOPPING": (503, None, None),
}

#: Statuses after which a BITS client tries again, by the Win32 page "Handling
#: Server Application Errors": 408, 409 and 5xx without 501 and 505.
GIVES_UP = {400, 403, 404, 411, 501}

#: Codes that end a job or start it over, whatever the status ([MC-BUP] 3.1.5.2.1).
FINAL = {E_ACCESSDENIED, E_INVALIDARG, BG_E_TOO_LARGE, BG_E_SESSION_NOT_FOUND}

reasons = st.sampled_from(Reason)


def told(refusal):
    """Status, BITS-Error and BITS-Error-Context of the Ack."""
    ack = Ack.refusing(refusal)
    fields = dict(ack.fields())
    return ack.status, fields.get("BITS-Error"), fields.get("BITS-Error-Context")


def test_table_has_these_rows():
    assert {reason.name for reason in Reason} == set(TOLD)


@pytest.mark.parametrize(("name", "expected"), TOLD.items(), ids=TOLD.keys())
def test_refusal_is_told_as_the_specification_says(name, expected):
    assert told(Refusal(Reason[name], "")) == expected


def test_codes_are_those_that_clients_know():
    assert {f"0x{code:08X}" for code in Hresult} == {
        E_ACCESSDENIED,
        E_INVALIDARG,
        ERROR_DISK_FULL,
        BG_E_REMOTE_PROGRAM,
        BG_E_SESSION_NOT_FOUND,
        BG_E_TOO_LARGE,
    }


def test_contexts_are_those_that_clients_know():
    assert {f"0x{context:X}" for context in Context} == {SERVER, APPLICATION}


@pytest.mark.parametrize(
    "name",
    [
        "STALLED",
        "CUT_OFF",
        "APPLICATION_TIMEOUT",
        "SUPERSEDED",
        "DISK_FULL",
        "STORAGE_FAILED",
        "INTERNAL",
        "TOO_MANY_SESSIONS",
        "SPOOL_FULL",
        "TOO_MANY_REQUESTS",
        "LOW_SPACE",
        "TOO_MANY_FAILURES",
        "STOPPING",
    ],
)
def test_what_passes_is_tried_again(name):
    status, code, _ = told(Refusal(Reason[name], ""))

    assert status not in GIVES_UP
    assert code not in FINAL


@pytest.mark.parametrize(
    "name",
    ["MALFORMED", "IS_A_FOLDER", "EXISTS", "ACCESS_DENIED", "NO_FOLDER", "TOO_LARGE"],
)
def test_what_does_not_pass_is_not_tried_again(name):
    status, code, _ = told(Refusal(Reason[name], ""))

    assert status in GIVES_UP or code in FINAL


def test_refusal_never_shrinks_the_fragments_of_a_client():
    assert 413 not in {reason.status for reason in Reason}


def test_each_reason_has_a_sentence_of_its_own():
    sentences = {reason.sentence for reason in Reason}

    assert len(sentences) == len(Reason)
    assert all(sentences)


@given(reasons, st.text(), st.none() | st.integers(0, 2**63))
def test_ack_of_a_refusal_has_all_error_fields_or_none(reason, detail, received):
    fields = dict(Ack.refusing(Refusal(reason, detail, received=received)).fields())
    codes = {fields.get("BITS-Error"), fields.get("BITS-Error-Code")}

    assert len(codes) == 1
    assert (codes == {None}) == ("BITS-Error-Context" not in fields)
    assert (codes == {None}) == (reason.hresult is None)


@given(st.integers(0, 2**63))
def test_gap_is_told_by_its_offset_without_error_fields(received):
    refusal = Refusal(Reason.OUT_OF_SYNC, "", received=received)
    names = dict(Ack.refusing(refusal).fields())

    assert names["BITS-Received-Content-Range"] == str(received)
    assert not [name for name in names if name.startswith("BITS-Error")]


def test_status_is_that_of_the_row():
    assert Refusal(Reason.TOO_LARGE, "").status == 500


def test_status_of_an_application_goes_before_that_of_the_row():
    assert Refusal(Reason.APPLICATION_FAILED, "", status=503).status == 503


def test_refusal_reads_as_its_sentence_and_detail():
    refusal = Refusal(Reason.OUT_OF_SYNC, "holds 5 bytes, got 9..", received=5)

    assert str(refusal) == "the fragment leaves a gap: holds 5 bytes, got 9.."
    assert (refusal.reason, refusal.detail, refusal.received) == (
        Reason.OUT_OF_SYNC,
        "holds 5 bytes, got 9..",
        5,
    )
