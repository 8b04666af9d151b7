"""Whatever a power cut leaves of an upload, a client can go on and loses nothing."""

import shutil
from pathlib import Path

import pytest
from clients import AFTER, ENTITY, FULL, JOBS, OLD, Client, Violation, recorded
from device import State, crashes
from store_kit import NAME, Uploads

#: States after each call, where not all are tried.
MOST = None if FULL else 12

#: Durability, whether the file is new, and the job.
CASES = [
    (durability, overwrite, job)
    for durability in ("fragment", "publish")
    for overwrite in ("new", "overwrite")
    for job in JOBS
    if FULL or overwrite == "new" or job == "one"
]


async def recover(
    state: State, told: dict[str, object], folder: Path, **settings: object
) -> None:
    """Start a server on what is left, and let the client end what it began.

    Raises:
        Violation: a promise was broken.
    """
    state.write(folder)
    before = OLD if settings["overwrite"] and told.get("ready") else None
    allowed = {before, ENTITY} if told.get("acked") != len(ENTITY) else {ENTITY}
    if told.get("ready") and state.read(NAME) not in allowed:
        raise Violation(f"there is {state.read(NAME)!r}")
    uploads = await Uploads.open(folder, **settings)
    await uploads.restart(boot=AFTER)
    client = Client(uploads, told)
    if told.get("cancelled"):
        await client.cancel()
        return
    await client.finish()
    if (folder / NAME).read_bytes() != ENTITY:
        raise Violation(f"published {(folder / NAME).read_bytes()!r}")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("durability", "overwrite", "job"), CASES)
async def test_upload_survives_a_power_cut_after_any_call(
    folder: Path, durability: str, overwrite: str, job: str
):
    found = recorded(job, durability, overwrite, folder)
    settings = {"durability": durability, "overwrite": overwrite == "overwrite"}
    count, wrong = 0, []
    for at, state, told in crashes(found, most=MOST):
        count += 1
        try:
            await recover(state, told, folder / "in", **settings)
        # Whatever the server raises is wrong, and the other states are tried too.
        except Exception as error:  # noqa: BLE001
            wrong.append(f"after {at}, {found[at]}, {told}: {error!r}\n  {state}")
        shutil.rmtree(folder / "in")
    # `make power` shows it.
    print(f"{job}, {durability}, {overwrite}: {len(found)} calls, {count} states")  # noqa: T201

    assert not wrong, f"{len(wrong)} of {count}\n" + "\n".join(wrong[:5])
