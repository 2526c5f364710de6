"""Starts the real binary on free ports, as lib/server.mjs does for the JavaScript clients."""

import asyncio
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("LYCEUM_BIN", REPOSITORY / "target/ci/lyceum")).resolve()
READY_S_MAX = 60
STOP_S_MAX = 10
# HTTP, admin, and one media port for each of up to four workers.
PORTS_PER_SERVER = 6


def _free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True


def _free_ports() -> int:
    """A run of free ports below the ephemeral range."""
    for _ in range(100):
        base = random.randrange(12_000, 30_000)
        if all(_free(base + i) for i in range(PORTS_PER_SERVER)):
            return base
    raise RuntimeError("no run of free ports found")


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


class Server:
    def __init__(self, host: str = "127.0.0.1", settings: dict[str, str] | None = None):
        base = _free_ports()
        self.url = f"http://{host}:{base}"
        self.admin = f"http://127.0.0.1:{base + 1}"
        self.directory = tempfile.mkdtemp(prefix="lyceum-clients-")
        self.log = open(f"{self.directory}/log", "w+b")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": self.directory,
            "LYCEUM__HTTP__LISTEN": f"{host}:{base}",
            "LYCEUM__ADMIN__LISTEN": f"127.0.0.1:{base + 1}",
            "LYCEUM__MEDIA__PORT": str(base + 2),
            "LYCEUM__TURN__PORT": "0",
            "LYCEUM__ADMIN__DRAIN_S": "0",
            "LYCEUM__TURN__TLS_PORT": "0",
        }
        self.environment = environment | (settings or {})
        self._start()

    def _start(self) -> None:
        # The default store is `./data/`, so a directory of its own keeps servers apart.
        self.process = subprocess.Popen(
            [BINARY], cwd=self.directory, env=self.environment, stdout=self.log, stderr=self.log
        )

    async def killed(self) -> "Server":
        """Kills it without a warning, and starts it again with the same store."""
        self.process.kill()
        self.process.wait()
        self._start()
        return await self.ready()

    def said(self) -> str:
        """Its log so far."""
        with open(f"{self.directory}/log", errors="replace") as log:
            return log.read()

    async def ready(self) -> "Server":
        for _ in range(READY_S_MAX * 20):
            if self.process.poll() is not None:
                break
            if await asyncio.to_thread(_status, f"{self.admin}/readyz") == 200:
                return self
            await asyncio.sleep(0.05)
        ended = self.process.poll()
        self.log.seek(0)
        text = self.log.read().decode(errors="replace")[-8_000:]
        self.stop()
        raise RuntimeError(f"{BINARY}: not ready (exit code {ended})\n{text}")

    def healthy(self) -> bool:
        return _status(f"{self.url}/api/health") == 200

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)
