"""The users file: what its lines mean, and which are wrong."""

import asyncio
import base64
import os
import shutil
import subprocess
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxies import answers, needed
from store_kit import cannot_run
from wire_client import until

from bitsd.users import User, Users, bare, parsed, wrong_name

ARGON2 = (
    "$argon2id$v=19$m=19456,t=2,p=1$t0kfr2rsIndRrcLBB+vxvg"
    "$i2QXZtUoXvbQmXkf18ly2IvW5tp1+gwZIs1r51Bw+4k"
)
BCRYPT = "$2y$04$jusXEybHy.KMWwqW48SNqu51ijrwBn6CDzRQeQWD/yNZf9m8qe2He"
NT = "0cb6948805f797bf2a82807973b89537"

FILE = f"""\
# people

alice:{ARGON2}
Bob:{BCRYPT}:ntlm={NT.upper()}
carol:!{BCRYPT}:Carol of the third floor:ntlm={NT}
dave:*
  \t
érik müller:!*  \r
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.htpasswd"


def loaded(path: Path, text: str) -> Users:
    path.write_bytes(text.encode())
    path.chmod(0o600)
    return Users.load(path)


@pytest.mark.parametrize(
    ("asked", "user"),
    [
        ("alice", User("alice", ARGON2)),
        ("BOB", User("Bob", BCRYPT, bytes.fromhex(NT))),
        ("carol", User("carol", BCRYPT, bytes.fromhex(NT), enabled=False)),
        ("dave", User("dave", None)),
        ("ÉRIK MÜLLER", User("érik müller", None, enabled=False)),
        ("# people", None),
        ("eve", None),
        ("", None),
    ],
    ids=str,
)
def test_users_are_found_in_any_case_of_letters(path, asked, user):
    assert loaded(path, FILE).find(asked) == user


@pytest.mark.parametrize(
    ("written", "whose"),
    [
        ("alice", "alice"),
        ("OFFICE\\alice", "alice"),
        ("alice@office", "alice"),
        ("OFFICE\\alice@office", "alice"),
        ("x\\OFFICE\\alice@a@b", "alice"),
        # In the file with their domains, and others without.
        ("carol@corp", "carol@corp"),
        ("CAROL@CORP", "carol@corp"),
        ("DESK\\carol@corp", "carol@corp"),
        ("carol@other", "carol"),
        ("CORP\\carol", "carol"),
        ("carol", "carol"),
        ("OFFICE\\bob", "OFFICE\\bob"),
        ("office\\BOB", "OFFICE\\bob"),
        ("OTHER\\bob", None),
        ("bob", None),
        ("bob@office", None),
        # Disabled under the name with the domain, whoever else there is.
        ("dave@corp", "dave@corp"),
        ("alice\\eve", None),
        ("eve@alice", None),
        ("alice\\", None),
        ("@alice", None),
        ("\\", None),
        ("", None),
    ],
)
def test_domain_counts_where_the_file_has_it(path, written, whose):
    names = ["alice", "carol", "carol@corp", "OFFICE\\bob", "dave", "dave@corp"]
    users = loaded(path, "".join(f"{name}:!*\n" for name in names))

    user = users.find(users.called(written))
    assert (user and user.name) == whose


@given(st.text())
def test_domain_is_taken_off_once(name):
    assert bare(bare(name)) == bare(name)
    assert Users([User(bare(name), None)]).called(name) == bare(name)


def test_file_of_comments_holds_nobody(path):
    assert len(loaded(path, "# nobody yet\n\n")) == len(Users.empty()) == 0


@pytest.mark.parametrize(
    "stored",
    [
        "$2a$10$" + "." * 53,
        "$2b$14$" + "A" * 21 + "u" + "A" * 31,
        "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$" + "A" * 22,
        f"$argon2id$v=19$m=262144,t=4,p=16${'A' * 86}${'A' * 86}",
        "$argon2id$v=19$m=8,t=131072,p=1$c29tZXNhbHQ$AAAAAA",
    ],
)
def test_hashes_of_other_programs_are_read(path, stored):
    assert loaded(path, f"alice:{stored}").find("alice") == User("alice", stored)


def test_line_of_htpasswd_is_read(path):
    if shutil.which("htpasswd") is None:
        # What is shown is that files of this very program are understood.
        cannot_run("htpasswd is not installed")
    command = ["htpasswd", "-cbBC", "4", path, "alice", "secret"]
    subprocess.run(command, check=True, capture_output=True)

    user = Users.load(path).find("alice")
    assert user is not None
    assert user.password is not None
    assert bcrypt.checkpw(b"secret", user.password.encode())


NGINX = """
{user}
pid {folder}/nginx.pid;
daemon off;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen unix:{folder}/nginx.socket;
        auth_basic "users";
        auth_basic_user_file {folder}/users.htpasswd;
        location / {{ empty_gif; }}
    }}
}}
"""


async def status_from_nginx(listening: Path, name: str) -> int:
    reader, writer = await asyncio.open_unix_connection(listening)
    credentials = base64.b64encode(f"{name}:secret".encode()).decode()
    request = f"GET / HTTP/1.0\r\nAuthorization: Basic {credentials}\r\n\r\n"
    writer.write(request.encode())
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1])


async def test_nginx_reads_the_same_file_and_lets_the_same_users_in(tmp_path):
    (tmp_path / "users.htpasswd").write_text(
        f"alice:{BCRYPT}:ntlm={NT}\nbob:{BCRYPT}:Bob\ncarol:!{BCRYPT}\ndave:*\n"
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (tmp_path / "conf").write_text(NGINX.format(user=user, folder=tmp_path))
    command = [needed("nginx"), "-e", "stderr", "-p", tmp_path, "-c", tmp_path / "conf"]
    process = await asyncio.create_subprocess_exec(*command)
    listening = tmp_path / "nginx.socket"
    try:
        await until(lambda: answers(listening) or process.returncode is not None)
        names = ["alice", "bob", "carol", "dave", "eve"]
        statuses = [await status_from_nginx(listening, name) for name in names]
    finally:
        process.terminate()
        await process.wait()

    assert statuses == [200, 200, 401, 401, 401]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("alice", "alice has no hash"),
        ("alice:", "set it again with `bitsd passwd`"),
        ("alice:!", "set it again with `bitsd passwd`"),
        ("alice:secret", "set it again with `bitsd passwd`"),
        ("alice:$apr1$TqI9WECO$LHZB2DqRlk9nObiB6vJG9.", "set it again"),
        ("alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "set it again"),
        ("alice:rqXexS6ZhobKA", "set it again"),
        ("alice:$5$rounds=5000$salt$hash", "set it again"),
        ("alice:!!" + BCRYPT, "set it again"),
        ("alice:" + BCRYPT[:-1], "set it again"),
        ("alice:" + BCRYPT + "x", "set it again"),
        ("alice:" + BCRYPT.replace("$04$", "$03$"), "set it again"),
        ("alice:" + BCRYPT.replace("$04$", "$32$"), "set it again"),
        ("alice:" + BCRYPT.replace("$2y$", "$2x$"), "set it again"),
        ("alice:" + ARGON2.replace("2id", "2i"), "set it again"),
        ("alice:" + ARGON2.replace("v=19", "v=16"), "set it again"),
        ("alice:" + ARGON2[:-1], "set it again"),
        ("alice:" + ARGON2[:-1] + "l", "set it again"),
        ("alice:" + ARGON2.replace("t0kfr2rsIndRrcLBB+vxvg", "c29tZXNhbA"), "again"),
        (f"alice:{BCRYPT}:ntlm=", "`bitsd passwd --ntlm`"),
        (f"alice:{BCRYPT}:ntlm={NT}0", "`bitsd passwd --ntlm`"),
        (f"alice:{BCRYPT}:ntlm={NT[:-1]}g", "`bitsd passwd --ntlm`"),
        (f"ALICE:{BCRYPT}\nAlice:{BCRYPT}", "Alice stands in line 2 already"),
        (f":{BCRYPT}", "a name is empty"),
        ("alice:" + BCRYPT.replace("$04$", "$15$"), "too much memory or time"),
        ("alice:" + BCRYPT.replace("$04$", "$31$"), "too much memory or time"),
        ("alice:" + BCRYPT.replace("Nqu5", "Nqw5"), "set it again"),
        ("alice:" + ARGON2.replace("m=19456,t=2,p=1", "m=1,t=1,p=1"), "too little"),
        ("alice:" + ARGON2.replace("m=19456,t=2,p=1", "m=23,t=1,p=3"), "too little"),
        ("alice:" + ARGON2.replace("m=19456", "m=0"), "set it again"),
        ("alice:" + ARGON2.replace("m=19456", "m=019456"), "set it again"),
        ("alice:" + ARGON2.replace("t=2", "t=0"), "set it again"),
        ("alice:" + ARGON2.replace("p=1", "p=0"), "set it again"),
        ("alice:" + ARGON2.replace("p=1", "p=17"), "too much memory or time"),
        ("alice:" + ARGON2.replace("m=19456", "m=262145"), "too much memory or time"),
        ("alice:" + ARGON2.replace("m=19456", f"m={'9' * 11}"), "set it again"),
        ("alice:" + ARGON2.replace("m=19456", f"m={'9' * 5000}"), "set it again"),
        ("alice:" + ARGON2.replace("t=2", "t=54"), "too much memory or time"),
        ("alice:" + ARGON2[: ARGON2.rindex("$")] + "$AA", "set it again"),
        ("alice:" + ARGON2[: ARGON2.rindex("$")] + "$AAAA", "set it again"),
        ("alice:" + ARGON2[: ARGON2.rindex("$")] + "$" + "A" * 88, "set it again"),
        ("alice:" + ARGON2.replace("$t0kfr2rs", "$" + "A" * 80), "set it again"),
        (f"{'a' * 301}:{BCRYPT}", "longer than 300"),
        (f" alice:{BCRYPT}", "' alice' has characters that cannot be seen"),
        (f"a\x00lice:{BCRYPT}", "cannot be seen"),
        (f"\ufeffalice:{BCRYPT}", "cannot be seen"),
        (f"a\x85lice:{BCRYPT}", "cannot be seen"),
        (f"al*:{BCRYPT}", "a colon or an asterisk"),
        (f"@users:{BCRYPT}", "begins with @"),
    ],
)
def test_line_that_is_wrong_is_named_without_its_secrets(path, line, says):
    with pytest.raises(ValueError, match="line") as caught:
        loaded(path, f"# first\n{line}\n")

    message = str(caught.value)
    assert message.startswith(f"{path}: line {2 + line.count(chr(10))}: ")
    assert says in message
    assert "\n" not in message
    assert not any(word in message for word in ("$", "secret", NT[:8], "rqXex", "{SHA"))


def test_line_that_is_not_utf8_is_named(path):
    path.write_bytes(b"# first\n\xe9rik:*\n")

    with pytest.raises(ValueError, match=r": line 2 is not UTF-8$"):
        Users.load(path)


@pytest.mark.parametrize("name", ["", "missing"])
def test_file_that_cannot_be_read_is_one_line(tmp_path, name):
    with pytest.raises(ValueError, match=f"^{tmp_path / name}: (Is a|No such)"):
        Users.load(tmp_path / name)


def test_longest_name_is_that_of_iis():
    assert wrong_name("a" * 300) is None


def test_name_with_a_colon_can_be_in_no_file():
    assert wrong_name("a:b") == "the name 'a:b' has a colon or an asterisk"


def test_name_cannot_be_a_comment():
    assert wrong_name("#alice") == "the name '#alice' begins with #"


def test_user_is_shown_without_secrets():
    shown = repr(User("alice", BCRYPT, bytes.fromhex(NT)))

    assert shown == "User('alice', enabled=True)"


@pytest.mark.parametrize(
    ("mode", "text", "says"),
    [
        (0o600, FILE, []),
        (0o640, FILE, []),
        (0o644, FILE, ["chmod o-r"]),
        (0o644, f"alice:{ARGON2}\n", []),
        (0o602, f"alice:{ARGON2}\n", ["chmod o-w"]),
        (0o666, FILE, ["chmod o-w", "chmod o-r"]),
    ],
)
def test_file_that_is_open_to_others_is_warned_of(path, mode, text, says):
    path.write_text(text, "utf-8")
    path.chmod(mode)

    warnings = Users.load(path).warnings
    assert [warning.rpartition(": ")[2] for warning in warnings] == says


def test_decoy_is_a_hash_of_the_file_and_stays_the_same(path):
    users, again = loaded(path, FILE), loaded(path, FILE)
    names = [f"nobody{number}" for number in range(100)]

    decoys = [users.decoy(name) for name in names]
    assert set(decoys) == {ARGON2, BCRYPT}
    assert decoys == [again.decoy(name.upper()) for name in names]


def test_decoy_cannot_be_told_from_the_names_alone(path):
    names = [f"nobody{number}" for number in range(100)]
    users = loaded(path, f"alice:{ARGON2}\nbob:{BCRYPT}\n")
    salted = ARGON2.replace("t0kfr2r", "t0kfr2s")
    other = loaded(path, f"alice:{salted}\nbob:{BCRYPT}\n")

    bcrypts = [users.decoy(name) == BCRYPT for name in names]
    assert bcrypts != [other.decoy(name) == BCRYPT for name in names]


def test_file_without_passwords_has_no_decoy(path):
    assert loaded(path, "dave:*\n").decoy("eve") is None


@given(st.text(), st.booleans(), st.none() | st.binary(min_size=16, max_size=16))
def test_line_of_any_good_name_is_read_back(name, enabled, nt_hash):
    line = f"{name}:{'' if enabled else '!'}{ARGON2}"
    if nt_hash is not None:
        line += f":ntlm={nt_hash.hex()}"

    if wrong_name(name) is None:
        assert parsed(line) == User(name, ARGON2, nt_hash, enabled)


@given(st.text())
def test_any_line_is_a_user_or_wrong(line):
    try:
        user = parsed(line)
    except ValueError:
        return

    assert wrong_name(user.name) is None
