"""The file that is uploaded."""

import os
from pathlib import Path

import pytest

from bitsd.client.progress import TransferFailed
from bitsd.client.source import Source


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return path


def test_bytes_are_read_where_they_are(path: Path):
    source = Source(path)
    octets = source.read(3, 4)
    source.close()

    assert octets == b"3456"
    assert source.looks.size == 10


def test_missing_file_is_told(tmp_path: Path):
    with pytest.raises(TransferFailed, match=r"cannot read .*file: No such file"):
        Source(tmp_path / "file")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_told(tmp_path: Path, make):
    make(tmp_path / "file")
    with pytest.raises(TransferFailed, match="file is not a file"):
        Source(tmp_path / "file")


def test_file_without_these_bytes_is_told(path: Path):
    source = Source(path)
    with pytest.raises(TransferFailed, match="cannot be read at byte 8"):
        source.read(8, 4)
    source.close()


def test_disk_that_fails_is_told():
    source = Source(Path("/proc/self/mem"))  # where reading at 0 is an I/O error
    with pytest.raises(TransferFailed, match="Input/output error"):
        source.read(0, 4)
    source.close()
