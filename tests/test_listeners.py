"""Sockets before anything serves them."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitsd.config import Listen
from bitsd.listeners import CannotStart, Listeners


def on(*addresses: str) -> Listeners:
    return Listeners([Listen(address=address) for address in addresses])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


@pytest.fixture
def living(path: Path) -> Iterator[Listeners]:
    """A server at a path."""
    with on(f"unix:{path}") as listeners:
        yield listeners


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
def test_url_has_the_port_that_the_system_chose(address: str):
    with on(address) as listeners:
        port = listeners.sockets[0][0].getsockname()[1]

        assert port
        assert listeners.urls == [f"http://{address[:-2]}:{port}"]


def test_every_address_of_a_name_is_listened_on():
    with on("localhost:0") as listeners:
        hosts = {listening.getsockname()[0] for listening in listeners.sockets[0]}

    assert hosts == {
        found[4][0] for found in socket.getaddrinfo("localhost", 0, type=1)
    }


def test_all_of_ipv6_leaves_the_port_of_ipv4_to_others():
    with on("0.0.0.0:0") as four:
        port = four.sockets[0][0].getsockname()[1]
        with on(f"[::]:{port}") as six:
            assert six.urls == [f"http://[::]:{port}"]


def test_port_can_be_taken_again_at_once():
    with on("127.0.0.1:0") as first:
        port = first.sockets[0][0].getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted = first.sockets[0][0].accept()[0]
        accepted.close()  # the side that closes first keeps the port for a minute
        client.close()
    with on(f"127.0.0.1:{port}") as again:
        assert again.urls == first.urls


def test_address_in_use_leaves_nothing_listening(path: Path):
    with on("127.0.0.1:0") as first:
        taken = first.urls[0].removeprefix("http://")
        with pytest.raises(CannotStart) as raised, on(f"unix:{path}", taken):
            pass

    assert str(raised.value) == (
        f"cannot listen on {taken}: Address already in use; choose another address"
    )
    assert not path.exists()


def test_name_that_nobody_has_is_told():
    with pytest.raises(
        CannotStart, match=r"^cannot listen on a\.invalid:0: (?!Unknown)"
    ):
        on("a.invalid:0").__enter__()


def test_path_is_there_as_long_as_it_is_listened_on(living: Listeners, path: Path):
    assert living.urls == [f"unix:{path}"]
    assert connects(path)

    living.close()
    assert not connects(path)
    living.__exit__()
    assert not path.exists()


def test_second_server_does_not_take_the_path_of_the_first(
    living: Listeners, path: Path
):
    with pytest.raises(CannotStart, match="in use"):
        on(f"unix:{path}").__enter__()

    assert connects(path)


def test_server_too_busy_to_answer_lives(living: Listeners, path: Path):
    living.sockets[0][0].listen(0)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(path))
        with pytest.raises(CannotStart, match="in use"):
            on(f"unix:{path}").__enter__()


def test_path_of_a_server_that_was_killed_is_taken(path: Path):
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with on(f"unix:{path}"):
        assert connects(path)


def test_file_is_not_taken_for_a_socket(path: Path):
    path.write_text("precious")
    with pytest.raises(CannotStart, match="in use"):
        on(f"unix:{path}").__enter__()

    assert path.read_text() == "precious"


def test_path_that_is_another_server_s_by_now_stays(living: Listeners, path: Path):
    path.rename(path.with_name("kept"))
    path.touch()
    living.__exit__()

    assert path.exists()


def test_path_that_somebody_removed_does_not_hinder_the_end(
    living: Listeners, path: Path
):
    path.unlink()
    living.__exit__()

    assert not path.exists()


def test_certificate_that_cannot_be_used_is_told_with_its_address():
    listen = Listen(address="127.0.0.1:0", certificate=Path("none.pem"))
    with (
        pytest.raises(CannotStart, match=r"^127\.0\.0\.1:0: certificate: cannot read"),
        Listeners([listen]),
    ):
        pass


def test_several_workers_have_a_socket_each_at_one_port():
    with Listeners([Listen(address="127.0.0.1:0")], workers=3) as listeners:
        ports = {mine.getsockname()[1] for [mine] in listeners.sockets}

        assert len({mine.fileno() for [mine] in listeners.sockets}) == 3
        assert listeners.urls == [f"http://127.0.0.1:{port}" for port in ports]


def test_port_that_several_workers_have_is_taken():
    with (
        Listeners([Listen(address="127.0.0.1:0")], workers=2) as listeners,
        pytest.raises(CannotStart, match="Address already in use"),
        Listeners([Listen(address=listeners.urls[0].removeprefix("http://"))], 2),
    ):
        pass


def test_several_workers_have_one_socket_at_a_path(path: Path):
    with Listeners([Listen(address=f"unix:{path}")], workers=2) as listeners:
        assert listeners.sockets[0] == listeners.sockets[1]
        assert len(listeners.urls) == 1
