"""A TOML file into a configuration, or into lines that say what is wrong."""

import tomllib
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitsd.config import Config, ConfigError, for_folder, from_table, load, warnings
from bitsd.settings import Directory, Listen

SMALLEST = '[[directory]]\nurl = "/in"\npath = "in"\n'


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The folder of the configuration file, with a folder `in`."""
    (tmp_path / "in").mkdir()
    return tmp_path


@pytest.fixture
def file(base: Path) -> Path:
    return base / "bitsd.toml"


def problems(table: str, base: Path) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        from_table(tomllib.loads(table), base)
    return raised.value.problems


def loaded(text: str, base: Path) -> Config:
    return from_table(tomllib.loads(text), base)


def test_a_path_is_relative_to_the_file(file, base):
    file.write_text(SMALLEST)

    assert load(file).directory[0].path == base / "in"


def test_a_path_may_be_absolute(file, base):
    text = SMALLEST.replace('"in"', f'"{base / "in"}"')

    assert loaded(text, Path("/nowhere")).directory[0].path == base / "in"


def test_what_is_left_out_has_its_default(base):
    expected = Config(directory=(Directory(url="/in", path=base / "in"),))

    assert loaded(SMALLEST, base) == expected


def test_every_setting_of_this_version_is_read(base):
    text = """
        maximum_connections = 7
        header_timeout = 8
        idle_timeout = "9s"
        stall_timeout = "10m"
        drain_timeout = "11h"
        stop_timeout = "12d"
        allow_anonymous_uploads = false

        [[listen]]
        address = "[::1]:1"

        [[directory]]
        url = "/in"
        path = "in"
        read = []
        write = []
        upload = true
        overwrite = true
        maximum_upload_size = "1kB"
        session_timeout = "2d"
        sessions_per_user = 3
        minimum_free_space = "4 KiB"
        notification = "by-value"
        notification_url = "http://app.example/handle"
        notification_timeout = "5m"
        host_id = "node3.example.org"
        host_id_fallback_timeout = "6h"
        durability = "publish"
        mime_types = { ".wim" = "application/x-ms-wim" }
        allow_anonymous_uploads = true
    """
    directory = Directory(
        url="/in",
        path=base / "in",
        read=(),
        write=(),
        upload=True,
        overwrite=True,
        maximum_upload_size=1000,
        session_timeout=timedelta(days=2),
        sessions_per_user=3,
        minimum_free_space=4096,
        notification="by-value",
        notification_url="http://app.example/handle",
        notification_timeout=timedelta(minutes=5),
        host_id="node3.example.org",
        host_id_fallback_timeout=timedelta(hours=6),
        durability="publish",
        mime_types={".wim": "application/x-ms-wim"},
        allow_anonymous_uploads=True,
    )

    assert loaded(text, base) == Config(
        listen=(Listen(address="[::1]:1"),),
        directory=(directory,),
        maximum_connections=7,
        header_timeout=timedelta(seconds=8),
        idle_timeout=timedelta(seconds=9),
        stall_timeout=timedelta(minutes=10),
        drain_timeout=timedelta(hours=11),
        stop_timeout=timedelta(days=12),
    )


def test_a_permission_at_the_top_is_given_to_every_directory(base):
    (base / "other").mkdir()
    text = "allow_anonymous_uploads = true\n" + SMALLEST
    text += '[[directory]]\nurl = "/other"\npath = "other"\n'

    for directory in loaded(text, base).directory:
        assert directory.allow_anonymous_uploads


def test_a_byte_order_mark_is_no_problem(file):
    file.write_text(SMALLEST, "utf-8-sig")

    assert load(file).directory[0].url == "/in"


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        pytest.param(b"a = ", "not TOML: Invalid value", id="syntax"),
        pytest.param(b"a = 1\na = 2", "not TOML: Cannot overwrite a value", id="twice"),
        pytest.param(b"a = " + b"1" * 5000, "not TOML: Exceeds the limit", id="number"),
        pytest.param(b"a = " + b"[" * 9000, "not TOML: ", id="depth"),
        pytest.param(b"a = '\xff'", "not UTF-8 text", id="not UTF-8"),
        pytest.param("a = 'é'".encode("utf-16"), "not UTF-8 text", id="UTF-16"),
        pytest.param(b"", "directory: is missing", id="empty"),
    ],
)
def test_a_file_that_does_not_hold_tables_is_one_problem(file, octets, problem):
    file.write_bytes(octets)

    with pytest.raises(ConfigError) as raised:
        load(file)
    (line,) = raised.value.problems

    assert line.startswith(f"{file}: {problem}")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing.toml", "cannot read it: No such file or directory"),
        ("in", "cannot read it: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_problem(base, name, problem):
    with pytest.raises(ConfigError) as raised:
        load(base / name)

    assert raised.value.problems == [f"{base / name}: {problem}"]


def test_every_line_names_the_file(file):
    file.write_text("a = 1\nb = 2\n" + SMALLEST)

    with pytest.raises(ConfigError) as raised:
        load(file)

    assert raised.value.problems == [
        f"{file}: a: unknown setting",
        f"{file}: b: unknown setting",
    ]
    assert str(raised.value) == "; ".join(raised.value.problems)


SIZES = 'not a size; give bytes as a number, or such as "250MB" or "20GiB"'
TIMES = (
    'not a time; give seconds as a number above 0, or such as "90s", "15m", "12h" '
    'or "14d"'
)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param("uplaod = true", "uplaod: unknown setting; did you mean upload?"),
        pytest.param("zzz = 1", "zzz: unknown setting", id="like no other"),
        pytest.param('"a\\nb" = 1', "a\\nb: unknown setting", id="line end in a key"),
        pytest.param('"\\u001b" = 1', "\\x1b: unknown setting", id="escape in a key"),
        pytest.param('upload = "yes"', "upload: Expected `bool`, got `str`"),
        pytest.param("upload = 1", "upload: Expected `bool`, got `int`"),
        pytest.param("read = 1", "read: Expected `array`, got `int`"),
        pytest.param('write = "*"', "write: Expected `array`, got `str`"),
        pytest.param("write = [1]", "write: Expected `str`, got `int` - at `$[0]`"),
        pytest.param("overwrite = []", "overwrite: Expected `bool`, got `array`"),
        pytest.param("sessions_per_user = 0", "sessions_per_user: Expected `int` >= 1"),
        pytest.param(
            "sessions_per_user = nan",
            "sessions_per_user: Expected `int`, got `float`",
        ),
        pytest.param("maximum_upload_size = -1", f"maximum_upload_size: {SIZES}"),
        pytest.param('maximum_upload_size = ""', f"maximum_upload_size: {SIZES}"),
        pytest.param("minimum_free_space = true", f"minimum_free_space: {SIZES}"),
        pytest.param("session_timeout = 0", f"session_timeout: {TIMES}"),
        pytest.param('session_timeout = "2w"', f"session_timeout: {TIMES}"),
        pytest.param("notification_timeout = 1.5", f"notification_timeout: {TIMES}"),
        pytest.param(
            "host_id_fallback_timeout = 07:32:00",
            f"host_id_fallback_timeout: {TIMES}",
        ),
        pytest.param(
            "host_id = 1979-05-27", "host_id: Expected `str | null`, got `date`"
        ),
        pytest.param(
            'durability = "never"', 'durability: give "fragment" or "publish"'
        ),
        pytest.param("durability = []", 'durability: give "fragment" or "publish"'),
        pytest.param(
            "notification = 1",
            'notification: give "none" or "by-reference" or "by-value"',
        ),
        pytest.param("mime_types = []", "mime_types: Expected `object`, got `array`"),
        pytest.param(
            "mime_types = {'.a' = 1}",
            "mime_types: Expected `str`, got `int` - at `$[...]`",
        ),
        pytest.param(
            'authentication = ["digest"]',
            "authentication: Invalid enum value 'digest' - at `$[0]`",
        ),
        pytest.param(
            "authentication = 1", "authentication: Expected `array | null`, got `int`"
        ),
    ],
)
def test_a_wrong_value_in_a_directory_is_one_line(base, line, problem):
    assert problems(SMALLEST + line, base) == [f"directory[0].{problem}"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param("adress = 1", "adress: unknown setting; did you mean address?"),
        pytest.param('key = "a.pem"', "key: without a certificate; set both or none"),
        pytest.param(
            'client_ca = "a.pem"',
            "client_ca: without a certificate of the server; set that as well",
        ),
        pytest.param(
            'client_crl = "a.pem"', "client_crl: without a client_ca; set both or none"
        ),
        pytest.param('key = ""', "key: Expected `str` of length >= 1"),
    ],
)
def test_a_wrong_value_in_an_address_is_one_line(base, line, problem):
    listen = f'[[listen]]\naddress = "127.0.0.1:0"\n{line}\n'

    assert problems(listen + SMALLEST, base) == [f"listen[0].{problem}"]


def test_certificate_that_cannot_be_read_is_one_line(base):
    listen = '[[listen]]\naddress = "127.0.0.1:0"\ncertificate = "a.pem"\n'

    assert problems(listen + SMALLEST, base) == [
        f"listen[0].certificate: cannot read {base}/a.pem: No such file or directory"
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param(
            "groups = { a = 1 }", "groups: Expected `array`, got `int` - at `$[...]`"
        ),
        pytest.param("upload = true", "upload: unknown setting"),
        pytest.param("user = 1", "user: unknown setting; did you mean users?"),
        pytest.param("users = 0", "users: Expected `str`, got `int`"),
        pytest.param(
            "maximum_connections = 0", "maximum_connections: Expected `int` >= 1"
        ),
        pytest.param("header_timeout = 0", f"header_timeout: {TIMES}"),
        pytest.param("listen = 1", "listen: write it as [[listen]]"),
        pytest.param("listen = ['127.0.0.1:0']", "listen: write it as [[listen]]"),
        pytest.param("listen = {}", "listen: write it as [[listen]]"),
        pytest.param("listen = []", "listen: at least one [[listen]] is needed"),
        pytest.param("listen = [{}]", "listen[0].address: is missing"),
    ],
)
def test_a_wrong_value_at_the_top_is_one_line(base, line, problem):
    assert problems(f"{line}\n{SMALLEST}", base) == [problem]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", ["directory: is missing"], id="nothing"),
        pytest.param(
            "directory = []",
            ["directory: at least one [[directory]] is needed"],
            id="none",
        ),
        pytest.param(
            '[directory]\nurl = "/in"',
            ["directory: write it as [[directory]]"],
            id="single brackets",
        ),
        pytest.param(
            "[[directory]]",
            ["directory[0].url: is missing", "directory[0].path: is missing"],
            id="empty",
        ),
        pytest.param(
            '[[directory]]\nurl = "/in"\npath = ""',
            ["directory[0].path: Expected `str` of length >= 1"],
            id="empty path",
        ),
    ],
)
def test_a_missing_or_misspelt_directory_is_told(base, text, expected):
    assert problems(text, base) == expected


def test_all_problems_are_told_at_once(base):
    text = """
        maximum_connections = "many"
        user = "alice"

        [[listen]]
        address = "8080"

        [[listen]]
        adress = "127.0.0.1:8080"

        [[directory]]
        url = "/in"
        path = "in"
        upload = "yes"
        session_timeout = 0

        [[directory]]
        url = "out"
        path = "out"
    """

    assert problems(text, base) == [
        "maximum_connections: Expected `int`, got `str`",
        "user: unknown setting; did you mean users?",
        (
            "listen[0].address: not an address: '8080'; "
            "give HOST:PORT, [V6]:PORT or unix:/PATH"
        ),
        "listen[1].adress: unknown setting; did you mean address?",
        "listen[1].address: is missing",
        "directory[0].upload: Expected `bool`, got `str`",
        f"directory[0].session_timeout: {TIMES}",
        "directory[1].url: not a path such as /images: 'out'",
        f"directory[1].path: {base / 'out'} does not exist; make the folder",
    ]


def test_settings_of_later_versions_may_be_off(base):
    text = "allow_basic_over_http = false\ngroups = {}\ntrusted_proxies = []\n"

    assert loaded(text + SMALLEST, base) == loaded(SMALLEST, base)


def test_a_folder_alone_is_open_for_uploads_and_downloads(base):
    config = for_folder(
        base / "in", address="127.0.0.1:0", url="/images", overwrite=True
    )

    assert config == Config(
        listen=(Listen(address="127.0.0.1:0"),),
        directory=(
            Directory(url="/images", path=base / "in", upload=True, overwrite=True),
        ),
    )


def test_a_folder_alone_is_not_opened_to_other_machines(base):
    with pytest.raises(ConfigError, match=r"write: anyone who reaches 0\.0\.0\.0:80 "):
        for_folder(base / "in", address="0.0.0.0:80", url="/in", overwrite=False)


def test_a_url_that_no_terminal_could_show_is_refused(base):
    with pytest.raises(ConfigError) as raised:
        for_folder(base / "in", address="127.0.0.1:0", url="/\udcff", overwrite=False)

    assert raised.value.problems == [
        "directory[0].url: not a path such as /images: '/\\udcff'"
    ]


MANY = "directory[0]: anyone who reaches /in may upload"
REPLACE = "directory[0].overwrite: anyone may replace files"
POWER = (
    "directory[0].durability: a power cut loses acknowledged bytes of unfinished "
    "uploads"
)
DISK = "directory[0].maximum_upload_size: not set: one upload may fill the disk"
CLAIM = (
    "directory[0].maximum_upload_size: not set: one upload may claim all of "
    "maximum_spool_size"
)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param("", [], id="downloads"),
        pytest.param("overwrite = true", [], id="overwrite without uploads"),
        pytest.param("upload = true", [DISK], id="uploads of any size"),
        pytest.param(
            'upload = true\nminimum_free_space = "1GB"', [], id="room is kept"
        ),
        pytest.param(
            'upload = true\nmaximum_spool_size = "1GB"',
            [CLAIM],
            id="one may claim all",
        ),
        pytest.param(
            'upload = true\nmaximum_upload_size = "1GB"', [], id="uploads are bounded"
        ),
        pytest.param(
            "upload = true\nmaximum_upload_size = 1\nallow_anonymous_uploads = true",
            [MANY],
            id="uploads of anyone",
        ),
        pytest.param(
            "upload = true\nmaximum_upload_size = 1\noverwrite = true",
            [REPLACE],
            id="replacing",
        ),
        pytest.param(
            "upload = true\nmaximum_upload_size = 1\noverwrite = true\nwrite = []\n"
            "allow_anonymous_uploads = true",
            [],
            id="uploads of nobody",
        ),
        pytest.param('durability = "publish"', [POWER], id="durability"),
        pytest.param(
            "upload = true\noverwrite = true\nallow_anonymous_uploads = true\n"
            'durability = "publish"',
            [MANY, REPLACE, POWER, DISK],
            id="everything",
        ),
    ],
)
def test_what_an_operator_should_have_thought_about_is_told(base, lines, expected):
    assert warnings(loaded(SMALLEST + lines, base)) == expected


@pytest.mark.parametrize(
    ("kind", "url", "warned"),
    [
        ("by-value", "handle", True),
        ("by-reference", "/app/handle", True),
        ("by-reference", "http://app.example/handle", False),
        ("by-reference", "//app.example/handle", False),
        ("none", "handle", False),
    ],
)
def test_application_that_the_client_may_choose_is_told(base, kind, url, warned):
    lines = f"notification = '{kind}'\nnotification_url = '{url}'\n"
    told = warnings(loaded(SMALLEST + lines, base))

    assert [line.partition(":")[0] for line in told] == (
        ["directory[0].notification_url"] if warned else []
    )


NAMES = [*Config.__struct_fields__, *Directory.__struct_fields__, "zzz"]
SCALARS = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.dates()
    | st.times()
    | st.datetimes()
    | st.sampled_from(["/in", "in", ".", "*", "127.0.0.1:0", "unix:/x", "1d", "none"])
)
KEYS = st.sampled_from(sorted({*NAMES, "address", "key"})) | st.text(max_size=4)


def tables(values):
    return st.dictionaries(KEYS, values, max_size=5)


VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | tables(v), max_leaves=8
)
DIRECTORIES = st.builds(
    lambda more: {"url": "/in", "path": "in"} | more, tables(VALUES)
)
LISTENS = st.builds(lambda more: {"address": "127.0.0.1:0"} | more, tables(VALUES))
WHOLE = st.builds(
    lambda more, shaped: more | shaped,
    tables(VALUES),
    st.fixed_dictionaries(
        {},
        optional={
            "directory": st.lists(DIRECTORIES, max_size=2),
            "listen": st.lists(LISTENS, max_size=2),
        },
    ),
)


# The folder is only read, so that examples may share it.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(table=WHOLE)
def test_any_table_is_a_configuration_or_printable_lines(base, table):
    try:
        config = from_table(table, base)
    except ConfigError as error:
        assert error.problems
        assert all(line and line.isprintable() for line in error.problems)
        return

    assert config.listen
    assert config.directory
    assert all(line.isprintable() for line in warnings(config))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(octets=st.binary() | st.text().map(str.encode))
def test_any_file_is_a_configuration_or_lines_that_name_it(file, octets):
    file.write_bytes(octets)

    with pytest.raises(ConfigError) as raised:
        load(file)

    assert all(line.startswith(f"{file}: ") for line in raised.value.problems)
