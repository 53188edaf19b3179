#!/usr/bin/env python3
"""Real client programs against the real server: see README.md beside this file.

Installs the clients below target/, starts `oprel serve`, runs every script of checks, stops the
server.
Words on the command line choose scripts by their names (`run.py client_openai sockets`).
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from server import Server

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "conformance"

# Scripts that need nothing but Python's own library, and those that need clients.
PLAIN = [
    "native_meta",
    "native_generate",
    "native_chat",
    "native_embed",
    "suite",
    "lifecycle",
    "store",
    "cli",
]
HOSTILE = ["hostile", "fuzz"]
CLIENTS = ["sockets", "client_ollama", "client_openai", "client_anthropic", "client_others"]
JAVASCRIPT = ["client_ollama.mjs", "client_openai.mjs"]
# The hub's own client against our stand-in for the hub, which the tests of downloads speak to.
HUB = "client_hub"
# Seconds for a script.
LIMIT = 600


def run(command, **more):
    """Runs a command in silence; whether it went well. What it said is shown if it did not."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )
    if done.returncode:
        print("\n".join(done.stdout.strip().splitlines()[-5:]), file=sys.stderr)
    return done.returncode == 0


def is_new(stamp, source):
    """Whether what a file asks for is not installed yet."""
    return not stamp.is_file() or stamp.read_text() != source.read_text()


def python():
    """A Python with the clients; `None` where it cannot be had."""
    wanted, folder = HERE / "requirements.txt", WORK / "venv"
    stamp, program = folder / "installed.txt", folder / "bin" / "python"
    if is_new(stamp, wanted):
        shutil.rmtree(folder, ignore_errors=True)
        made = run([sys.executable, "-m", "venv", str(folder)])
        if not made or not run(
            [str(program), "-m", "pip", "install", "--quiet", "-r", str(wanted)]
        ):
            return None
        stamp.write_text(wanted.read_text())
    return str(program)


def javascript():
    """A folder with the clients in JavaScript and our scripts; `None` where it cannot be had."""
    folder = WORK / "js"
    stamp, wanted = folder / "installed.json", HERE / "package.json"
    if not shutil.which("node") or not shutil.which("npm"):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    if is_new(stamp, wanted):
        shutil.copy(wanted, folder / "package.json")
        command = [
            "npm",
            "install",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--ignore-scripts",
        ]
        if not run(command, cwd=folder):
            return None
        stamp.write_text(wanted.read_text())
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, folder / script.name)
    return folder


class Tally:
    """What came of all checks."""

    def __init__(self):
        self.counts = {"ok": 0, "FAIL": 0, "skip": 0}

    def script(self, name, command, environment, **more):
        """Runs a script of checks and passes on its lines."""
        print(f"# {name}", flush=True)
        start = time.monotonic()
        script = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )
        try:
            out, noise = script.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            script.kill()
            out, noise = script.communicate()
        lines = [line for line in out.splitlines() if line.split(" ")[0] in self.counts]
        for line in lines:
            print(line, flush=True)
            self.counts[line.split(" ")[0]] += 1
        fell = script.returncode and not any(line.startswith("FAIL") for line in lines)
        if fell or not lines:
            self.outcome(
                "FAIL",
                f"{name} ended with {script.returncode} after "
                f"{time.monotonic() - start:.0f} s: {noise[-500:]}",
            )

    def outcome(self, outcome, says):
        self.counts[outcome] += 1
        print(f"{outcome:4} {'-':8} {says}".replace("\n", " "), flush=True)


def hub(clients, tally):
    """Runs the test of `oprel-hub` that needs the hub's own client."""
    says = "huggingface_hub downloads, lists and searches at the stand-in for the hub"
    if not clients or not shutil.which("cargo"):
        return tally.outcome("skip", f"{says}: it or cargo is not here")
    print(f"# {HUB}", flush=True)
    test = ["cargo", "test", "--quiet", "-p", "oprel-hub", "--test", "fetch", "official_client"]
    environment = {**os.environ, "OPREL_HF_PYTHON": clients}
    done = subprocess.run(test, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode == 0 and "1 passed" in done.stdout:
        return tally.outcome("ok", says)
    tally.outcome("FAIL", f"{says}: {(done.stdout + done.stderr)[-500:]}")


def scripts(words, tally, server):
    """Runs what was chosen."""

    def chosen(names):
        return [
            name
            for name in names
            if not words or name.removesuffix(".mjs") in words or name in words
        ]

    environment = {
        **server.environment,
        "OPREL_URL": server.url,
        "OPREL_PID": str(server.process.pid),
    }
    for name in ["OPREL_BIN", "OPREL_SHARED", "OPREL_TRACE", "OPREL_CHECK_SECONDS", "OPREL_FUZZ", "OPREL_LARGE"]:
        if name in os.environ:
            environment[name] = os.environ[name]
    for name in chosen(PLAIN + HOSTILE):
        tally.script(name, [sys.executable, str(HERE / f"{name}.py")], environment)
    clients = python() if chosen([*CLIENTS, HUB]) else None
    for name in chosen(CLIENTS):
        if clients:
            tally.script(name, [clients, str(HERE / f"{name}.py")], environment)
        else:
            tally.outcome("skip", f"{name}: its packages cannot be installed here")
    if chosen([HUB]):
        hub(clients, tally)
    folder = javascript() if chosen(JAVASCRIPT) else None
    for name in chosen(JAVASCRIPT):
        if folder:
            tally.script(name, ["node", name], environment, cwd=folder)
        else:
            tally.outcome("skip", f"{name}: node, npm or the packages are not here")


def main():
    binary = os.environ.setdefault("OPREL_BIN", str(ROOT / "target" / "release" / "oprel"))
    if not os.access(binary, os.X_OK):
        sys.exit(f"there is no {binary}: build it with `make conformance`, or set OPREL_BIN")
    WORK.mkdir(parents=True, exist_ok=True)
    tally = Tally()
    with Server() as server:
        scripts(sys.argv[1:], tally, server)
        log = WORK / "serve.log"
        shutil.copy(server.log, log)
        try:
            code = server.end()
            assert code == 0, f"exit code {code}"
            tally.outcome(
                "ok", "the server stops with exit code 0 and leaves no process and no socket"
            )
        except (AssertionError, subprocess.TimeoutExpired) as error:
            tally.outcome("FAIL", f"the server does not stop as it should: {error}")
    counts = tally.counts
    if counts["FAIL"]:
        print(f"the server's log is {log}")
    print(f"{counts['ok']} passed, {counts['FAIL']} failed, {counts['skip']} skipped")
    sys.exit(bool(counts["FAIL"]))


main()
