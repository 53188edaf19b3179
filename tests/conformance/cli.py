"""The command line (lines 56, 59, 60)."""

import os
import pty
import select
import subprocess
import tempfile
import time

from check import DEMO, URL, asked, check, loaded, main

BIN = os.environ["OPREL_BIN"]


def run(*arguments, text=None, **variables):
    with tempfile.TemporaryDirectory(prefix="oprel-") as home:
        environment = {**os.environ, "OPREL_HOME": home, **variables}
        return subprocess.run(
            [BIN, *arguments],
            input=text,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )


@check("56", "piped text and a prompt give the answer alone on standard output")
def piped():
    plain = run("run", DEMO, "How do I start the server?", "--temperature", "0")
    assert plain.returncode == 0 and plain.stdout.strip().startswith("Run"), plain
    joined = run(
        "run",
        DEMO,
        "How do I start the server?",
        "--temperature",
        "0",
        "--verbose",
        text="A note.\n",
    )
    assert (
        joined.returncode == 0
        and joined.stdout.strip()
        and "token" not in joined.stdout.split("\n")[-1]
    )
    assert "token" in joined.stderr
    only = run("run", DEMO, text="How do I start the server?\n")
    assert only.returncode == 0 and only.stdout.strip(), only


@check("-", "an absent model ends with the exit code for that and tells what to do")
def absent():
    ended = run("run", "/no/such/model.gguf", "Hi")
    assert ended.returncode == 3 and ended.stdout == "" and ended.stderr, ended


def session(*lines, home=None):
    """What an interactive chat shows that is typed these lines, and its exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "dumb"
        if home:
            os.environ["OPREL_HOME"] = home
        os.execv(BIN, [BIN, "run", DEMO])
    shown = b""

    def read(seconds):
        nonlocal shown
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    piece = os.read(terminal, 65536)
                except OSError:
                    return
                if not piece:
                    return
                shown += piece
                until = min(until, time.monotonic() + 1.5)

    read(5)
    for line in lines:
        os.write(terminal, line.encode())
        read(5)
    ended, status = 0, 0
    until = time.monotonic() + 10
    while not ended and time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        time.sleep(0.05)
    if not ended:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        raise AssertionError(f"it goes on: {shown[-500:]!r}")
    os.close(terminal)
    return shown.decode(errors="replace"), os.waitstatus_to_exitcode(status)


@check("59", "an interactive chat takes texts of many lines, and ends by /bye")
def interactive():
    shown, code = session("/?\n", '"""How do I\nstart the server?"""\n', "/clear\n", "/bye\n")
    assert code == 0 and "/bye" in shown and "server" in shown.split('"""')[-1], shown[-800:]


@check("59", "an interactive chat is set up, saved and loaded")
def set_up():
    with tempfile.TemporaryDirectory(prefix="oprel-") as home:
        shown, code = session(
            "/set parameter temperature 0\n",
            "/set system Be short.\n",
            "How do I start the server?\n",
            "/save talk\n",
            "/bye\n",
            home=home,
        )
        assert code == 0 and "is no command" not in shown, shown[-800:]
        shown, code = session("/load talk\n", "/show system\n", "/show parameters\n", "/bye\n", home=home)
        assert code == 0, shown[-800:]
        assert "Be short." in shown and "temperature" in shown, shown[-800:]


def asks_server(*arguments):
    return run(*arguments, OPREL_HOST=URL)


@check("60", "stop of an absent model ends with 1, of an idle one with 0")
def stop():
    ended = asks_server("stop", "no-such-model")
    assert (
        ended.returncode == 1 and 'couldn\'t find model "no-such-model" to stop' in ended.stderr
    ), ended
    asked("/load", {"model": DEMO})
    ended = asks_server("stop", DEMO)
    assert ended.returncode == 0 and "demo:latest" not in loaded(), ended


@check("57", "ps prints columns that can be parsed as today's")
def ps():
    asked("/load", {"model": DEMO})
    lines = asks_server("ps").stdout.splitlines()
    assert lines[0].split()[:3] == ["NAME", "ID", "SIZE"], lines
    name, _, size, unit, *_ = lines[1].split()
    assert name == "demo:latest" and float(size) > 0 and unit in ("KB", "MB", "GB"), lines


main()
