"""NTLM as a server checks it ([MS-NLMP])."""

from .md4 import md4


def nt_hash(password: str) -> bytes:
    """What NTLM keeps of a password, 16 bytes: who has it can sign in with it.

    [MS-NLMP] 3.3.2, NTOWF without the name of the user.
    """
    return md4(password.encode("utf-16-le", "surrogatepass"))
