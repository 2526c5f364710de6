"""The API against its own description, by schemathesis: whatever is sent, the server answers as it says it does."""

import asyncio
import pathlib
import subprocess
import sys

from lyceum_server import Server

ADMIN_KEY = "A-key-of-the-tests-0123456789abcdefghijklm"
# Below what the server lets one network ask for, so that requests reach what lies behind the limit.
REQUESTS_PER_S = 40
RUN_S_MAX = 600


def test_nothing_that_the_description_allows_or_forbids_breaks_the_server():
    server = asyncio.run(
        Server(settings={"LYCEUM_ADMIN_KEY": ADMIN_KEY, "JWT_SECRET": "tests-0123456789-abcdefghijklmnopqrstuvw", "LYCEUM__MEDIA__ADDRESSES": "127.0.0.1"}).ready()
    )
    try:
        schemathesis = pathlib.Path(sys.executable).with_name("schemathesis")
        ended = subprocess.run(
            [
                schemathesis,
                "run",
                f"{server.url}/openapi.json",
                *("--header", f"Authorization: Bearer {ADMIN_KEY}"),
                *("--checks", "not_a_server_error,status_code_conformance,response_schema_conformance"),
                *("--phases", "coverage,fuzzing"),
                *("--max-examples", "10"),
                *("--rate-limit", f"{REQUESTS_PER_S}/s"),
                *("--warnings", "off"),
                "--generation-deterministic",
                "--no-shrink",
                "--continue-on-failure",
            ],
            cwd=server.directory,
            capture_output=True,
            text=True,
            timeout=RUN_S_MAX,
        )
        assert ended.returncode == 0, ended.stdout[-8_000:] + ended.stderr[-2_000:]
        # A run that asked nothing would find nothing.
        cases = next(line for line in ended.stdout.splitlines() if "generated" in line)
        assert int(cases.split()[0]) > 200, ended.stdout[-2_000:]
        assert server.healthy(), "the server is healthy afterwards"
    finally:
        server.stop()
