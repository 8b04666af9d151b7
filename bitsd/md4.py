"""MD4 (RFC 1320), for the hash of a password that NTLM is made of.

OpenSSL 3 has it in a provider that few systems load. It protects nothing by itself.
"""

import struct
from collections.abc import Callable

_MASK = 0xFFFFFFFF

#: Function, constant, order of the words, shifts of each round.
_ROUNDS: tuple[
    tuple[Callable[[int, int, int], int], int, tuple[int, ...], tuple[int, ...]], ...
] = (
    (lambda x, y, z: (x & y) | (~x & z), 0, tuple(range(16)), (3, 7, 11, 19)),
    (
        lambda x, y, z: (x & y) | (x & z) | (y & z),
        0x5A827999,
        (0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
        (3, 5, 9, 13),
    ),
    (
        lambda x, y, z: x ^ y ^ z,
        0x6ED9EBA1,
        (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15),
        (3, 9, 11, 15),
    ),
)


def md4(octets: bytes) -> bytes:
    """The digest, 16 bytes."""
    padding = b"\x80" + bytes((55 - len(octets)) % 64)
    padded = octets + padding + struct.pack("<Q", 8 * len(octets))
    state = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
    for words in struct.iter_unpack("<16I", padded):
        state = _after_block(state, words)
    return struct.pack("<4I", *state)


def _after_block(
    state: tuple[int, int, int, int], words: tuple[int, ...]
) -> tuple[int, int, int, int]:
    a, b, c, d = state
    for mixed, constant, order, shifts in _ROUNDS:
        for step, word in enumerate(order):
            total = (a + mixed(b, c, d) + words[word] + constant) & _MASK
            shift = shifts[step % 4]
            rotated = ((total << shift) | (total >> (32 - shift))) & _MASK
            a, b, c, d = d, rotated, b, c
    mixed_in = zip(state, (a, b, c, d), strict=True)
    first, second, third, fourth = ((old + new) & _MASK for old, new in mixed_in)
    return first, second, third, fourth
