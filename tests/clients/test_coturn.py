"""coturn's clients against the embedded TURN server, with the credentials that a seat is given."""

import asyncio
import pathlib
import re
import subprocess
import urllib.request

import pytest
import pytest_asyncio

from lyceum_server import Server
from person import Person, unique

# Of the server, as run.sh and the fixture below make them; and of a peer that echoes.
SERVER4, SERVER6 = "10.77.0.1", "fd77::1"
PEER4, PEER6 = "10.77.0.9", "fd77::9"
RUN_S_MAX = 90
SOON_S = 30
GRACE_S = 2
# Each client sends so many messages by each of its allocations.
MESSAGES = 20
# coturn's clients follow RFC 5766 and bind a channel of 0x4000–0x7FFF at random; RFC 8656 §12 left a quarter of those.
CHANNEL_TRIES_MAX = 100

WAYS = {"udp": [], "tcp": ["-t"], "tls": ["-t", "-S"]}
MANNERS = {
    "channels": ["-c"],
    "indications": ["-c", "-s"],
    # A second allocation at the next port, which the first one reserved.
    "a pair of ports": ["-s"],
}


@pytest.fixture(scope="module", autouse=True)
def addresses():
    """IPv6 for the server, and addresses for a peer: in the namespace of these tests."""
    made = [f"{PEER4}/24", f"{SERVER6}/64", f"{PEER6}/64"]
    for address in made:
        subprocess.run(["ip", "address", "add", address, "dev", "veth0", *(["nodad"] if ":" in address else [])], check=True)
    yield
    for address in made:
        subprocess.run(["ip", "address", "del", address, "dev", "veth0"], check=True)


@pytest.fixture(scope="module")
def tls(tmp_path_factory) -> dict[str, str]:
    """Settings of a server with a certificate."""
    folder: pathlib.Path = tmp_path_factory.mktemp("tls")
    files = {"certificate": folder / "fullchain.pem", "key": folder / "privkey.pem"}
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lyceum.test"]
        + ["-addext", "subjectAltName=DNS:lyceum.test", "-keyout", files["key"], "-out", files["certificate"]],
        check=True,
        capture_output=True,
    )
    return {f"LYCEUM__TLS__{name.upper()}": str(file) for name, file in files.items()}


def start(settings: dict[str, str]) -> Server:
    ours = {
        "LYCEUM__MEDIA__ADDRESSES": f"{SERVER4},{SERVER6}",
        # Clients that give up leave theirs to expire.
        "LYCEUM__TURN__ALLOCATIONS_PER_PARTICIPANT": "1000",
        "LYCEUM__ROOM__GRACE_MS": str(GRACE_S * 1_000),
    }
    return asyncio.run(Server(settings=ours | settings).ready())


@pytest.fixture(scope="module")
def server(tls):
    """The default policy: nothing but our own media can be reached."""
    running = start(tls)
    yield running
    assert running.healthy(), "the server is healthy after the tests"
    running.stop()


@pytest.fixture(scope="module")
def open_server(tls):
    """One that reaches the peer, and a peer that echoes."""
    running = start(tls | {"LYCEUM__TURN__PEERS": f"{PEER4}/32,{PEER6}/128"})
    echoes = [subprocess.Popen(["turnutils_peer", "-L", address]) for address in (PEER4, PEER6)]
    yield running
    for echo in echoes:
        echo.terminate()
        echo.wait()
    assert running.healthy(), "the server is healthy after the tests"
    running.stop()


@pytest_asyncio.fixture
async def seat():
    """Makes people who have joined; `seat(server)`."""
    made: list[Person] = []

    async def join(server: Server) -> Person:
        made.append(await Person(server.url).connect())
        return await made[-1].join(unique("turn"), unique("ann"), media="sfu")

    yield join
    for each in made:
        # Said outright: this library's `disconnect` may close the connection before it has said goodbye.
        if each.socket.connected and each.seat:
            await each.emit("leave-session", {"sessionId": each.session})
        await each.close()


class Login:
    """What a join says of TURN."""

    def __init__(self, person: Person):
        (ice,) = person.seat["iceServers"]
        self.words = ["-u", ice["username"], "-w", ice["credential"]]
        urls = [re.fullmatch(r"(turns?):(\S+):(\d+)\?transport=(udp|tcp)", url) for url in ice["urls"]]
        assert all(urls), ice["urls"]
        self.ports = {"tls" if url[1] == "turns" else url[4]: url[3] for url in urls}

    def to(self, way: str, server: str = SERVER4) -> list[str]:
        return [*WAYS[way], *self.words, "-p", self.ports[way], server]


async def run(*words: str) -> tuple[int, str]:
    """Runs a program: its exit code, and what it said."""
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    try:
        said, _ = await asyncio.wait_for(process.communicate(), RUN_S_MAX)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, said.decode(errors="replace")


async def uclient(*words: str) -> tuple[int, str]:
    """Tries until the client draws a channel that there is."""
    for _ in range(CHANNEL_TRIES_MAX):
        code, said = await run("turnutils_uclient", "-n", str(MESSAGES), *words)
        if "channel bind: error 400" not in said:
            break
    return code, said


async def echoed(name: str, *words: str) -> None:
    code, said = await uclient(*words)
    assert code == 0, f"{name}: {said[-1_500:]}"
    sent, received = re.findall(r"tot_send_msgs=(\d+), tot_recv_msgs=(\d+)", said)[-1]
    assert int(sent) == int(received) >= MESSAGES, f"{name}: {said[-1_500:]}"
    assert "Total lost packets 0 (" in said, f"{name}: {said[-1_500:]}"


async def metric(server: Server, name: str) -> float:
    """A sum over all labels that begin so."""

    def get() -> str:
        with urllib.request.urlopen(f"{server.admin}/metrics", timeout=SOON_S) as response:
            return response.read().decode()

    found = re.findall(rf"^{re.escape(name)}[^ ]* (\S+)$", await asyncio.to_thread(get), re.MULTILINE)
    assert found, f"there is a metric {name}"
    return sum(map(float, found))


async def until_metric(server: Server, name: str, accept) -> None:
    async with asyncio.timeout(SOON_S):
        while not accept(await metric(server, name)):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("address", [SERVER4, SERVER6])
async def test_stun_tells_the_reflexive_address(server, seat, address):
    login = Login(await seat(server))
    code, said = await run("turnutils_stunclient", "-p", login.ports["udp"], address)
    assert code == 0, said
    assert re.search(rf"UDP reflexive addr: \[?{address}\]?:\d+", said), said


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("manner", [[], ["-s"]], ids=["channel", "permission"])
async def test_by_default_every_foreign_peer_is_refused(server, seat, way, manner):
    login = Login(await seat(server))
    made = await metric(server, "lyceum_turn_allocations_total")
    for peer in (PEER4, "192.0.2.7", "127.0.0.1"):
        code, said = await uclient("-v", "-c", *manner, "-e", peer, *login.to(way))
        assert code != 0 and "error 403" in said, said[-1_500:]
        assert f"Received relay addr: {SERVER4}:" in said, said[-1_500:]
    await until_metric(server, "lyceum_turn_allocations_total", lambda count: count >= made + 3)
    assert await metric(server, "lyceum_turn_relay_sockets") == 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_listed_peer_echoes_all(open_server, seat, way):
    login = Login(await seat(open_server))
    families = {
        "IPv4": ["-e", PEER4, *login.to(way)],
        "IPv6": ["-x", "-e", PEER6, *login.to(way, SERVER6)],
        "IPv4 to IPv6": ["-x", "-e", PEER6, *login.to(way)],
        "IPv6 to IPv4": ["-X", "-e", PEER4, *login.to(way, SERVER6)],
    }
    await asyncio.gather(
        *(
            echoed(f"{family} with {manner}", *words, *family_words)
            for family, family_words in families.items()
            for manner, words in MANNERS.items()
        )
    )
    # What is not listed is refused here, too.
    code, said = await uclient("-c", "-e", "192.0.2.7", *login.to(way))
    assert code != 0 and "error 403" in said, said[-1_500:]


async def test_many_clients_and_large_messages(open_server, seat):
    login = Login(await seat(open_server))
    await asyncio.gather(
        echoed("five clients", "-m", "5", "-c", "-s", "-e", PEER4, *login.to("udp")),
        echoed("1,200 bytes", "-l", "1200", "-c", "-e", PEER4, *login.to("tcp")),
        echoed("extra requests, some wrong", "-G", "-c", "-s", "-e", PEER4, *login.to("tls")),
        echoed("a client that comes and goes", "-B", "-c", "-s", "-e", PEER4, *login.to("tcp")),
        echoed("don't fragment, odd length", "-l", "317", "-c", "-g", "-s", "-e", PEER4, *login.to("udp")),
        echoed("padded channel data", "-l", "317", "-c", "-D", "-e", PEER4, *login.to("udp")),
    )


@pytest.mark.parametrize("end", ["leave", "grace time"])
async def test_credentials_and_allocations_end_with_the_seat(open_server, seat, end):
    ann = await seat(open_server)
    login = Login(ann)
    await until_metric(open_server, "lyceum_turn_allocations{", lambda count: count == 0)
    # A client that would send for minutes.
    running = asyncio.create_task(uclient("-n", "100000", "-c", "-s", "-e", PEER4, *login.to("udp")))
    await until_metric(open_server, "lyceum_turn_allocations{", lambda count: count >= 1)
    if end == "leave":
        await ann.emit("leave-session", {"sessionId": ann.session})
    else:
        await ann.drop()
    await until_metric(open_server, "lyceum_turn_allocations{", lambda count: count == 0)
    await until_metric(open_server, "lyceum_turn_relay_sockets", lambda count: count == 0)
    running.cancel()
    refused = await metric(open_server, 'lyceum_turn_refusals_total{reason="not_granted"}')
    code, said = await uclient("-v", "-c", "-e", PEER4, *login.to("udp"))
    assert code != 0 and "Cannot complete Allocation" in said, said[-1_500:]
    assert "Received relay addr" not in said
    await until_metric(open_server, 'lyceum_turn_refusals_total{reason="not_granted"}', lambda count: count > refused)


async def test_made_up_credentials_open_nothing(open_server, seat):
    ann = await seat(open_server)
    made = await metric(open_server, "lyceum_turn_allocations_total")
    refused = await metric(open_server, 'lyceum_turn_refusals_total{reason="unauthenticated"}')
    login = Login(ann)
    expiry, holder = login.words[1].split(":")
    for username, password in [
        (login.words[1], "made up"),
        (f"{int(expiry) + 1}:{holder}", login.words[3]),
        (f"{expiry}:somebody", login.words[3]),
        ("ann", "password"),
    ]:
        words = ["-u", username, "-w", password, "-p", login.ports["udp"], SERVER4]
        code, said = await uclient("-c", "-s", "-e", PEER4, *words)
        assert code != 0 and "Cannot complete Allocation" in said, said[-1_500:]
    # The clients' own secret, which makes credentials as the server does, but with another key.
    code, said = await uclient("-c", "-e", PEER4, "-u", holder, "-W", "another secret", "-p", login.ports["udp"], SERVER4)
    assert code != 0, said[-1_500:]
    await until_metric(open_server, 'lyceum_turn_refusals_total{reason="unauthenticated"}', lambda count: count >= refused + 5)
    assert await metric(open_server, "lyceum_turn_allocations_total") == made
