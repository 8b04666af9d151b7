import errno
import os

import pytest
from store_kit import failing, run_child

from benchmarks.report import file_system
from bitsd.cached import open_now, read_now

CONTENT = b"twenty bytes of text"
PAGE = os.sysconf("SC_PAGE_SIZE")

ASK = """
import sys
from bitsd.cached import open_now
try:
    open_now(sys.argv[1], 0)
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "session.json"
    path.write_bytes(CONTENT)
    return path


def evicted(path):
    """The file, without a page of it in memory."""
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    return file


def test_a_file_in_memory_is_opened_and_read(path):
    file = open_now(path, os.O_RDONLY)
    held = read_now(file, len(CONTENT))
    inheritable = os.get_inheritable(file)
    os.close(file)

    assert held == CONTENT
    assert not inheritable


def test_no_more_is_read_than_asked_for(path):
    file = open_now(str(path), os.O_RDONLY)
    held = read_now(file, 6)
    os.close(file)

    assert held == b"twenty"


def test_a_name_that_is_known_to_be_missing_is_missed_as_by_open(tmp_path):
    missing = tmp_path / "none"
    assert not missing.exists()  # from now on the kernel knows, or has to look again

    with pytest.raises((FileNotFoundError, BlockingIOError)) as caught:
        open_now(missing, os.O_RDONLY)

    assert caught.value.filename == str(missing)


def test_file_of_which_a_part_is_in_memory_is_not_taken_for_the_whole(path):
    if file_system(path.parent) in {"tmpfs", "ramfs"}:
        # It has nothing else than memory.
        pytest.skip("the temporary folder is in memory")
    path.write_bytes(bytes(3 * PAGE))
    file = evicted(path)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)  # or more would be read ahead
    os.pread(file, 1, 0)
    try:
        with pytest.raises(BlockingIOError):
            read_now(file, 3 * PAGE)
    finally:
        os.close(file)


def test_pages_that_are_not_in_memory_are_not_waited_for(path):
    if file_system(path.parent) in {"tmpfs", "ramfs"}:
        # It has nothing else than memory.
        pytest.skip("the temporary folder is in memory")
    file = evicted(path)
    try:
        with pytest.raises(BlockingIOError):
            read_now(file, 100)
    finally:
        os.close(file)


@pytest.mark.parametrize("number", ["ENOSYS", "EPERM", "EINVAL", "EAGAIN"])
def test_a_system_that_cannot_say_leaves_it_to_a_thread(path, number):
    said = run_child(ASK, path, under=failing("openat2", error=number))

    assert said == "BlockingIOError"


def test_a_pipe_has_no_pages_to_look_at():
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError, match=os.strerror(errno.ESPIPE)):
            read_now(reading, 1)
    finally:
        os.close(reading)
        os.close(writing)
