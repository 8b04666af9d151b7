"""What answers mean that are no success."""

import pytest

from bitsd.client.verdicts import final, told

TRANSIENT = {408, 409, 500, 502, 503, 504, 507}
FATAL = {301, 302, 307, 400, 401, 403, 404, 405, 407, 411, 413, 416, 501, 505}


@pytest.mark.parametrize("status", sorted(TRANSIENT | FATAL))
def test_status_says_whether_to_try_again(status: int):
    assert final(status, None) == (status in FATAL)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (500, 0x80200020, True),  # the file is over the limit
        (500, 0x80070057, True),
        (501, 0x80070005, True),
        (500, 0x80070070, False),  # the disk is full
        (500, 0x8020001E, False),  # the application failed
        (408, 0x8020001E, False),
        (411, 0x80070057, True),
        (500, 0xDEADBEEF, False),
        (404, 0xDEADBEEF, True),
    ],
)
def test_code_outranks_the_status(status: int, code: int, *, expected: bool):
    assert final(status, code) == expected


@pytest.mark.parametrize(
    ("status", "code", "parts"),
    [
        (
            403,
            0x80070005,
            ["0x80070005. For an upload most often: the file exists", "`overwrite`"],
        ),
        (400, 0x80070057, ["0x80070057. The upload has a name with char", "< > : "]),
        (500, 0x80200020, ["HTTP 500 with 0x80200020. ", "maximum_upload_size"]),
        (500, 0xDEADBEEF, ["HTTP 500 with 0xDEADBEEF. The server failed."]),
        (401, None, ["HTTP 401. ", "--user"]),
        (407, None, ["HTTP 407. ", "https_proxy="]),
        (599, None, ["HTTP 599"]),
    ],
)
def test_answer_is_told_with_what_to_do(status, code, parts):
    line = told(status, code)

    assert line.startswith("the server answers HTTP ")
    assert all(part in line for part in parts)
    assert "\n" not in line
    assert not line.endswith(".")
