"""What `bitsd init` writes is served, and takes uploads."""

from pathlib import Path

import pytest
from processes import Run, ran, rewrite, serving
from wire_client import fetch


@pytest.mark.parametrize(
    ("name", "may_read"), [("medv", True), ("dfir-orc", True), ("psd", False)]
)
async def test_profile_takes_an_upload(
    name: str, run: Run, tmp_path: Path, *, may_read: bool
):
    _code, out, _err = await ran("init", "--profile", name, str(tmp_path))
    config = tmp_path / "bitsd.toml"
    rewrite(config, "127.0.0.1:8080", "127.0.0.1:0")
    running = await serving(run, config)
    line = await running.dial()
    url = out.split("http://127.0.0.1:8080")[1].strip()
    await line.upload(f"{url}a.7z", b"evidence")
    answer = await line.ask(fetch(f"{url}a.7z"))

    assert answer.status == (200 if may_read else 403)
