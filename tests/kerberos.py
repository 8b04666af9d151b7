"""A realm of MIT Kerberos: its key distribution centre, users and services."""

import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from store_kit import PATIENCE, cannot_run

REALM = "EXAMPLE.TEST"

#: Users, each with the password that `Realm.password` says.
USERS = ("alice", "bob")

#: Services, whose keys are in the keytab.
SERVICES = ("HTTP/localhost", "HTTP/127.0.0.1")

_KDC = """
[realms]
{realm} = {{
    database_name = {folder}/principal
    key_stash_file = {folder}/stash
    acl_file = {folder}/acl
    kdc_listen = 127.0.0.1:{port}
    kdc_tcp_listen = 127.0.0.1:{port}
}}
[logging]
kdc = STDERR
"""

# No name is looked up: what a client asks for is what it gets.
_CLIENT = """
[libdefaults]
default_realm = {realm}
dns_lookup_realm = false
dns_lookup_kdc = false
dns_canonicalize_hostname = false
rdns = false
[realms]
{realm} = {{
    kdc = 127.0.0.1:{port}
}}
[domain_realm]
localhost = {realm}
127.0.0.1 = {realm}
"""


@dataclass(frozen=True)
class Realm:
    """A realm whose centre runs.

    Attributes:
        environment: of a client; its tickets are those of the last `kinit`.
        keytab: of the services.
    """

    folder: Path
    name: str = REALM

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "KRB5_CONFIG": str(self.folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "KRB5CCNAME": f"FILE:{self.folder / 'tickets'}",
        }

    @property
    def keytab(self) -> Path:
        return self.folder / "keytab"

    def password(self, user: str) -> str:
        return f"password of {user}"

    def kinit(self, user: str, *options: str) -> None:
        """Tickets for a client of this user."""
        self._run("kinit", *options, user, said=self.password(user))

    def administer(self, *commands: str) -> None:
        """Commands of kadmin."""
        self._run("kadmin.local", "-r", self.name, said="\n".join(commands))

    def create(self) -> None:
        """The database, with users and services."""
        command = ("kdb5_util", "create", "-s", "-r", self.name, "-P", "master")
        self._run(*command, said="")
        users = [f'addprinc -pw "{self.password(user)}" {user}' for user in USERS]
        services = [f"addprinc -randkey {service}" for service in SERVICES]
        keys = f"ktadd -k {self.keytab} {' '.join(SERVICES)}"
        self.administer(*users, *services, keys)

    def _run(self, *command: str, said: str) -> None:
        done = subprocess.run(
            command,
            input=f"{said}\n",
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def ticket(binding: bytes | None = None) -> bytes:
    """What a client sends whose tickets this process has; it is good once.

    Args:
        binding: the TLS that it is for, as in RFC 5929.
    """
    # It is built only where the headers of MIT Kerberos are.
    import gssapi  # noqa: PLC0415

    name = gssapi.Name("HTTP@localhost", gssapi.NameType.hostbased_service)
    bound = binding and gssapi.raw.ChannelBindings(application_data=binding)
    token = gssapi.SecurityContext(
        name=name, usage="initiate", channel_bindings=bound
    ).step()
    assert token is not None
    return token


@contextmanager
def realm(folder: Path, name: str = REALM) -> Iterator[Realm]:
    """A realm in a folder of its own, as long as it is needed; it blocks."""
    for tool in ("krb5kdc", "kdb5_util", "kadmin.local", "kinit"):
        if shutil.which(tool) is None:
            cannot_run(
                f"{tool} is not installed: krb5-kdc, krb5-admin-server, krb5-user"
            )
    folder.mkdir(exist_ok=True)
    made = Realm(folder, name)
    port = _free_port()
    for file, text in (("kdc.conf", _KDC), ("krb5.conf", _CLIENT)):
        filled = text.format(realm=name, folder=folder, port=port)
        (folder / file).write_text(filled, "utf-8")
    made.create()
    with _centre(name, made.environment):
        yield made


@contextmanager
def _centre(name: str, environment: Mapping[str, str]) -> Iterator[None]:
    command = ["krb5kdc", "-n", "-r", name]
    centre = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
    try:
        assert centre.stderr is not None
        while b"commencing operation" not in (said := centre.stderr.readline()):
            assert said, "krb5kdc ended"
        yield
    finally:
        centre.terminate()
        centre.communicate(timeout=PATIENCE)


def _free_port() -> int:
    """Free, and of those that nobody gets who takes any port."""
    while True:
        port = random.randrange(61_000, 65_536)
        with (
            socket.socket(type=socket.SOCK_STREAM) as stream,
            socket.socket(type=socket.SOCK_DGRAM) as datagram,
            suppress(OSError),
        ):
            stream.bind(("127.0.0.1", port))
            datagram.bind(("127.0.0.1", port))
            return port
