"""Fixtures: one server for a test file, and people who go when their test ends."""

import asyncio

import pytest
import pytest_asyncio

from lyceum_server import Server
from person import Person


@pytest.fixture(scope="module")
def server():
    running = asyncio.run(Server().ready())
    yield running
    assert running.healthy(), "the server is healthy after the tests"
    running.stop()


@pytest_asyncio.fixture
async def person(server):
    """Makes connected people; `person(transport)`."""
    made: list[Person] = []

    async def connect(transport: str = "websocket") -> Person:
        made.append(Person(server.url, transport))
        return await made[-1].connect()

    yield connect
    for each in made:
        await each.close()
