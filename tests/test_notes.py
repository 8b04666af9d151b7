import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTES = ROOT / "protocol-notes"
PAGES = sorted(path.name for path in NOTES.glob("*.md") if path.name != "README.md")

MENTION = re.compile(r"protocol-notes/([\w-]+\.md)")
LINK = re.compile(r"\]\(([^)#:]+)\)")
TEST_FILE = re.compile(r"`(tests/[\w/]+\.py)`")


MENTIONS = sorted(
    {
        (path.name, name)
        for path in (ROOT / "bitsd").rglob("*.py")
        for name in MENTION.findall(path.read_text())
    }
)


@pytest.mark.parametrize(("module", "name"), MENTIONS)
def test_a_page_that_code_mentions_exists(module, name):
    assert name in PAGES


def test_every_page_is_linked_from_the_index():
    linked = LINK.findall((NOTES / "README.md").read_text())

    assert set(PAGES) <= set(linked)


@pytest.mark.parametrize("name", ["README.md", *PAGES])
def test_what_a_page_points_at_exists(name):
    text = (NOTES / name).read_text()
    targets = [NOTES / link for link in LINK.findall(text)]
    targets += [ROOT / test for test in TEST_FILE.findall(text)]

    assert [target for target in targets if not target.exists()] == []


COMMAND = re.compile(r"`bitsd ([a-z-]+)")
TEXTS = [*NOTES.glob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
TEXTS += [ROOT / "bitsd" / "codes.py", ROOT / "bitsd" / "explain.py"]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_text_sends_anyone_to_a_command_that_is_not_there(path):
    known = {"serve", "check-config", "explain", "passwd", "init", "sessions", "upload"}
    known |= {"download", "sync", "doctor", "decode", "replay"}

    assert set(COMMAND.findall(path.read_text())) <= known
