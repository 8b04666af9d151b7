"""The page of settings and the sample say what the schema says."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Literal, get_args, get_origin

import msgspec
import pytest

from bitsd import quantities
from bitsd.config import ConfigError, load, warnings
from bitsd.settings import CertificateRule, Config, Directory, Listen

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "protocol-notes" / "settings.md").read_text("utf-8")
SAMPLE = ROOT / "examples" / "bitsd.toml"

HEAD = "| setting | default | meaning |\n|---|---|---|"
SECTIONS = {
    "At the top": Config,
    "[[listen]]": Listen,
    "[[directory]]": Directory,
    "[[certificate]]": CertificateRule,
}
TIME_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}

FIELDS = [
    pytest.param(title, field, id=f"{kind.__name__}.{field.name}")
    for title, kind in SECTIONS.items()
    for field in msgspec.structs.fields(kind)
]


def toml(value: object) -> str:
    """A default as an operator would write it."""
    match value:
        case bool():
            return str(value).lower()
        case timedelta():
            seconds = int(value.total_seconds())
            unit = next(u for u, s in TIME_UNITS.items() if seconds % s == 0)
            return f'"{seconds // TIME_UNITS[unit]}{unit}"'
        case str():
            return f'"{value}"'
        case tuple():
            return "[" + ", ".join(map(toml, value)) + "]"
        case Listen():
            return f'{{ address = "{value.address}" }}'
    return str(value)


def default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    if field.default is None:
        return "not set"
    made = field.default_factory
    return f"`{toml(field.default if made is msgspec.NODEFAULT else made())}`"


def meaning(field: msgspec.structs.FieldInfo) -> str:
    kind, meta = get_args(field.type)
    text = meta.description
    if get_origin(kind) is Literal:
        text += "; give " + " or ".join(f"`{toml(value)}`" for value in get_args(kind))
    if meta.ge is not None:
        text += f"; at least {meta.ge}"
    return text


def row(field: msgspec.structs.FieldInfo) -> str:
    return f"| `{field.name}` | {default(field)} | {meaning(field)} |"


def rows(kind: type[msgspec.Struct]) -> list[str]:
    return [row(field) for field in msgspec.structs.fields(kind)]


def section(title: str) -> str:
    _before, _, rest = PAGE.partition(f"\n## {title}\n")
    return rest.partition("\n## ")[0]


@pytest.mark.parametrize(("title", "field"), FIELDS)
def test_every_setting_has_a_row_with_its_default_and_its_help(title, field):
    assert row(field) in section(title).splitlines()


@pytest.mark.parametrize("title", SECTIONS)
def test_the_page_has_no_other_settings_and_the_order_of_the_schema(title):
    table = section(title).strip()

    assert table.startswith(HEAD)
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [
        field.name for field in msgspec.structs.fields(SECTIONS[title])
    ]


@pytest.mark.parametrize(("title", "field"), FIELDS)
def test_a_setting_has_help_of_its_own(title, field):
    help_text = get_args(field.type)[1].description

    assert help_text
    assert not help_text.endswith(".")
    assert "|" not in help_text


IIS = re.compile(r"BITS[A-Z]\w+")


def test_the_page_names_the_counterpart_of_each_property_of_iis():
    helps = {
        (name, f"`{field.values[1].name}`")
        for field in FIELDS
        for name in IIS.findall(get_args(field.values[1].type)[1].description)
    }
    table = section("Properties of IIS")
    pairs = re.findall(r"^\| (BITS\w+) \| (`\w+`) ", table, re.MULTILINE)

    assert set(pairs) == helps


def test_the_forms_of_sizes_and_times_are_those_of_the_page():
    intro = PAGE.partition("\n## ")[0]

    assert quantities.SIZES in intro
    assert quantities.TIMES in intro


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """The sample where an operator would put it, with its folders."""
    for name in ("images", "reports"):
        (tmp_path / name).mkdir()
    path = tmp_path / "bitsd.toml"
    path.write_bytes(SAMPLE.read_bytes())
    return path


def test_the_sample_has_no_problems_and_no_warnings(sample):
    config = load(sample)
    images, reports = config.directory

    assert [listen.address for listen in config.listen] == ["127.0.0.1:8080"]
    assert (images.path, images.upload) == (sample.parent / "images", False)
    assert (reports.path, reports.upload) == (sample.parent / "reports", True)
    assert reports.read == ()
    assert warnings(config) == []


def test_the_sample_on_other_machines_needs_the_line_that_it_names(sample):
    text = sample.read_text("utf-8").replace('127.0.0.1:8080"', '0.0.0.0:8080"')
    line = re.findall(r"^# (allow_\w+ = true)", text, re.MULTILINE)
    sample.write_text(text, "utf-8")

    with pytest.raises(ConfigError) as raised:
        load(sample)
    sample.write_text("\n".join([text, *line]), "utf-8")

    assert len(raised.value.problems) == 1
    assert line[0] in raised.value.problems[0]
    assert load(sample).directory[1].allow_anonymous_uploads


def test_the_sample_shows_defaults_as_they_are():
    text = SAMPLE.read_text("utf-8")
    defaults = {f.name: f for f in msgspec.structs.fields(Directory)}

    assert f"overwrite = {toml(defaults['overwrite'].default)}" in text
    assert f"session_timeout = {toml(defaults['session_timeout'].default)}" in text
