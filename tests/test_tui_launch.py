"""Starting the real command: what it answers, what it says meanwhile, what becomes of it when nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from kerascnn.errors import RunError
from tests.conftest import GIVE_UP_S
from tests.live import program
from tui.starting import launch


async def test_the_commands_own_sentence_is_the_error() -> None:
    with pytest.raises(RunError, match=r"^no model is named 'cnn2_fmnits'; did you mean 'cnn2_fmnist'\?"):
        await launch.start(["train", "cnn2_fmnits"])
    assert not Path("runs").exists()


@pytest.mark.skipif(os.name != "posix", reason="scripts that start by their first line are POSIX's")
async def test_progress_is_reported_line_by_line_and_the_priority_is_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        tmp_path,
        monkeypatch,
        'sys.stderr.write("1 of 170 MB\\r2 of 170 MB\\r" + "x" * 100_000 + "\\n\\n" + str(os.nice(0)) + "\\n")\n'
        'print(json.dumps({"run_dir": " ".join(sys.argv[3:])}))',
    )
    said: list[str] = []
    run = await launch.start(["train", "m"], report=said.append)
    assert run.path == Path("train m --detach --json")
    assert said[:2] == ["1 of 170 MB", "2 of 170 MB"]
    assert len(said[2]) == 100_000
    assert int(said[3]) == min(os.nice(0) + launch.NICENESS, 19)


@pytest.mark.skipif(os.name != "posix", reason="scripts that start by their first line are POSIX's")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sys.exit(3)", "exit code 3"),
        ("sys.stderr.write('first\\nkerascnn: no data:\\n  why\\n'); sys.exit(1)", "^no data:\nwhy$"),
        ("sys.stderr.write('Traceback\\nBoomError: boom'); sys.exit(1)", "^BoomError: boom$"),
        ("print('no JSON')", "expected the run's directory"),
    ],
)
async def test_a_command_that_fails_is_told_of_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    program(tmp_path, monkeypatch, text)
    with pytest.raises(RunError, match=told):
        await launch.start(["train", "m"])


@pytest.mark.skipif(os.name != "posix", reason="scripts that start by their first line are POSIX's")
async def test_a_start_that_nobody_waits_for_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "sys.stderr.write(f'{os.getpid()}\\n'); sys.stderr.flush(); time.sleep(600)")
    said: asyncio.Queue[str] = asyncio.Queue()
    start = asyncio.create_task(launch.start(["train", "m"], report=said.put_nowait))
    pid = int(await said.get())
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not psutil.pid_exists(pid)


@pytest.mark.skipif(os.name != "posix", reason="scripts that start by their first line are POSIX's")
async def test_the_training_that_a_start_has_begun_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        tmp_path,
        monkeypatch,
        "import subprocess\n"
        "training = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(6000)'], start_new_session=True)\n"
        "sys.stderr.write(f'{training.pid}\\n'); sys.stderr.flush(); time.sleep(600)",
    )
    said: asyncio.Queue[str] = asyncio.Queue()
    start = asyncio.create_task(launch.start(["train", "m"], report=said.put_nowait))
    training = psutil.Process(int(await said.get()))
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    deadline = time.monotonic() + GIVE_UP_S
    try:
        while training.is_running() and training.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
    finally:
        with contextlib.suppress(psutil.Error):
            training.kill()


@pytest.mark.skipif(os.name != "posix", reason="scripts that start by their first line are POSIX's")
def test_a_start_that_is_left_goes_on_when_the_interface_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        tmp_path,
        monkeypatch,
        "sys.stderr.write('1 of 170 MB\\n'); sys.stderr.flush()\n"
        f"while not os.path.exists({str(tmp_path / 'ended')!r}): time.sleep(0.01)\n"
        "sys.stderr.write('x' * 1_000_000); print('x' * 1_000_000, flush=True)\n"
        f"open({str(tmp_path / 'begun')!r}, 'w').close()",
    )
    noted = launch.Start("m")

    async def interface() -> None:
        said: asyncio.Queue[str] = asyncio.Queue()
        start = asyncio.create_task(launch.start(["train", "m"], report=said.put_nowait, known_as=noted))
        await said.get()
        noted.left = True
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start

    asyncio.run(interface())
    (tmp_path / "ended").touch()
    assert noted.process is not None
    assert noted.process.wait(timeout=GIVE_UP_S) == 0
    assert (tmp_path / "begun").exists()


def test_on_windows_what_is_started_has_a_console_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {"CREATE_NEW_PROCESS_GROUP": 0x200, "CREATE_NO_WINDOW": 0x8000000, "BELOW_NORMAL_PRIORITY_CLASS": 0x4000}
    started: list[int] = []

    def popen(command: list[str], *, creationflags: int, **_: object) -> None:
        started.append(creationflags)

    with monkeypatch.context() as windows:
        for name, value in flags.items():
            windows.setattr(subprocess, name, value, raising=False)
        windows.setattr(subprocess, "Popen", popen)
        windows.setattr(sys, "platform", "win32")
        launch.start_lecture(["lecture", "run"], tmp_path / "log.txt")
    assert started == [0x800_4200], "closing the console that we run in doesn't end it"
