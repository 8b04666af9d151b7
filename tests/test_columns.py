import pytest
from rich.cells import cell_len

from bitsd.columns import WIDTH, columns
from bitsd.plain import plain

HEAD = ("NAME", " SIZE", "STATE")


def test_texts_stand_at_the_left_and_numbers_at_the_right():
    lines = columns(HEAD, [["a", "5", "on"], ["long one", "1234567", "x"]], [])

    assert lines == [
        "NAME         SIZE  STATE",
        "a               5  on",
        "long one  1234567  x",
    ]


def test_wide_letters_keep_columns_aligned():
    head, wide, narrow = columns(HEAD, [["画像", "1", "x"], ["ab", "1", "x"]], [])

    assert cell_len(wide) == cell_len(narrow) == head.index("STATE") + 1


def test_first_columns_that_may_give_way_do_so_and_keep_their_ends():
    row = ["a" * 80 + ".ckm", "1", "b" * 40]
    _head, line = columns(HEAD, [row], [("NAME", 10), ("STATE", 5)])

    assert cell_len(line) == WIDTH
    assert "…aaaa" in line
    assert ".ckm" in line
    assert "b" * 40 in line


def test_other_columns_give_way_when_that_is_not_enough():
    row = ["a" * 80, "1", "b" * 120]
    _head, line = columns(HEAD, [row], [("NAME", 10), ("STATE", 5)])

    assert cell_len(line) == WIDTH
    assert line.startswith("…aaaaaaaaa  ")


def test_columns_are_cut_no_further_than_to_their_least_width():
    _head, line = columns(HEAD, [["a" * 99, "1" * 99, "b"]], [("NAME", 10)])

    assert line == f"…{'a' * 9}  {'1' * 99}  b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("report 1.7z", "report 1.7z"),
        ("наклон.ckm", "наклон.ckm"),
        ("a\nb", "a\\nb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\udcff", "\\udcff"),
    ],
)
def test_nothing_in_a_text_moves_the_cursor(text: str, shown: str):
    assert plain(text) == shown
