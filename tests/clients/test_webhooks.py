"""Webhooks of the real binary, verified by the library that receivers use, while their receiver delays, fails and forgets to answer."""

import asyncio
import base64
import datetime
import json
import os
import time
import urllib.error
import urllib.request

import pytest
import pytest_asyncio
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from lyceum_server import Server
from person import Person, unique

# Longer than the second attempt takes to come (5 s and a tenth), several times over.
SOON_S = 60
EMPTY_TIMEOUT_MS = "1000"


def fresh_secret() -> str:
    return "whsec_" + base64.b64encode(os.urandom(32)).decode()


class Receiver:
    """Records every request and whether its signature was good; `treat(event, times)` says what to answer, or nothing to cut it off."""

    def __init__(self, secret: str, treat=lambda event, times: 200):
        self.secret = secret
        self.treat = treat
        self.requests: list[dict] = []
        self._news = asyncio.Condition()

    async def start(self) -> "Receiver":
        app = web.Application()
        app.router.add_post("/hook", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hook"
        return self

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        # Throws unless the signature is good and the timestamp near.
        event = Webhook(self.secret).verify(body, dict(request.headers))
        taken = {"id": request.headers["webhook-id"], "body": body, "event": event, "at": time.monotonic()}
        times = 1 + sum(known["id"] == taken["id"] for known in self.requests)
        status = self.treat(event, times)
        if asyncio.iscoroutine(status):
            status = await status
        taken["status"] = status
        async with self._news:
            self.requests.append(taken)
            self._news.notify_all()
        if status is None:
            request.transport.abort()
        return web.Response(status=status or 500)

    def of(self, session: str) -> list[dict]:
        return [r for r in self.requests if r["event"]["data"].get("sessionId") == session]

    async def ended(self, session: str) -> list[dict]:
        """All requests about a session, once its end has been taken."""
        def is_over() -> bool:
            return any(r["event"]["type"] == "session.ended" and r["status"] == 200 for r in self.of(session))

        async with asyncio.timeout(SOON_S):
            async with self._news:
                await self._news.wait_for(is_over)
        return self.of(session)

    async def stop(self) -> None:
        await self._runner.cleanup()


@pytest_asyncio.fixture
async def told():
    """Makes a receiver and a server that tells it; `told(treat)`."""
    made = []

    async def make(treat=lambda event, times: 200, **settings: str) -> tuple[Server, Receiver]:
        secret = fresh_secret()
        receiver = await Receiver(secret, treat).start()
        server = Server(settings={
            "LYCEUM__WEBHOOKS__URL": receiver.url,
            "LYCEUM__WEBHOOKS__SECRET": secret,
            "LYCEUM__ROOM__EMPTY_TIMEOUT_MS": EMPTY_TIMEOUT_MS,
        } | settings)
        made.append((server, receiver))
        await server.ready()
        return server, receiver

    yield make
    for server, receiver in made:
        said = server.said()
        assert "whsec_" not in said and receiver.secret[6:] not in said, "secrets are not logged"
        assert receiver.url not in said, "neither are URLs, which may hold one"
        server.stop()
        await receiver.stop()


async def meeting(server: Server, session: str, people: int = 2) -> str:
    """People come and go; gives the meeting's id."""
    joined = []
    for number in range(people):
        person = await Person(server.url).connect()
        joined.append(await person.join(session, f"user{number}"))
    meeting_id = joined[0].seat["meetingId"]
    for person in joined:
        assert (await person.emit("leave-session", {"sessionId": session}))["ok"] is True
        await person.close()
    return meeting_id


def check(requests: list[dict], people: int) -> None:
    """What every receiver may rely on, whatever happened on the way."""
    bodies: dict[str, bytes] = {}
    for request in requests:
        assert bodies.setdefault(request["id"], request["body"]) == request["body"], "the same at every attempt"
    events = sorted((json.loads(body) for body in bodies.values()), key=lambda event: event["roomSeq"])
    assert [event["roomSeq"] for event in events] == list(range(1, len(events) + 1)), "no gap, nothing twice under two ids"
    kinds = [event["type"] for event in events]
    assert kinds[0] == "session.started" and kinds[-1] == "session.ended"
    assert kinds.count("participant.joined") == kinds.count("participant.left") == people
    summary = events[-1]["data"]
    assert len(summary["participants"]) == people and summary["peakParticipants"] >= 1
    taken = [r["event"]["roomSeq"] for r in requests if r["status"] == 200]
    assert taken == sorted(taken), "each waits for the one before"


async def test_a_call_is_told_of_signed_and_in_order(told):
    server, receiver = await told()
    session = unique("room")
    await meeting(server, session, people=3)
    requests = await receiver.ended(session)
    check(requests, 3)
    assert len(requests) == len({r["id"] for r in requests}), "once, since all went well"
    async with asyncio.timeout(SOON_S):
        while True:
            with urllib.request.urlopen(f"{server.admin}/metrics", timeout=10) as page:
                lines = page.read().decode().splitlines()
            if f'lyceum_webhook_attempts_total{{result="delivered"}} {len(requests)}' in lines:
                break
            await asyncio.sleep(0.2)
    assert 'lyceum_webhook_attempts_total{result="dead"} 0' in lines


async def test_a_receiver_that_fails_hangs_and_forgets_loses_nothing(told):
    async def late() -> int:
        await asyncio.sleep(2)
        return 200

    def treat(event: dict, times: int):
        # The second is taken, but its answer is cut off; the third is slow.
        return {1: 503, 2: None}.get(event["roomSeq"], 200) if times == 1 else late() if event["roomSeq"] == 3 else 200

    server, receiver = await told(treat)
    session = unique("room")
    await meeting(server, session)
    requests = await receiver.ended(session)
    check(requests, 2)
    times = [r["event"]["roomSeq"] for r in requests]
    assert times.count(1) == 2 and times.count(2) == 2, times


async def test_another_room_does_not_wait(told):
    stuck = unique("stuck")
    server, receiver = await told(lambda event, times: 500 if event["data"]["sessionId"] == stuck else 200)
    await meeting(server, stuck)
    free = unique("free")
    await meeting(server, free)
    check(await receiver.ended(free), 2)
    assert {r["event"]["roomSeq"] for r in receiver.of(stuck)} == {1}, "its first holds up the others"


async def test_a_kill_midway_loses_nothing(told):
    is_down = True
    server, receiver = await told(lambda event, times: None if is_down else 200)
    session = unique("room")
    await meeting(server, session)
    async with asyncio.timeout(SOON_S):
        while not receiver.requests:
            await asyncio.sleep(0.05)
    server = await server.killed()
    is_down = False
    check(await receiver.ended(session), 2)


def post(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict]:
    request = urllib.request.Request(url, body, headers | {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


async def test_another_server_takes_the_summary_once(told):
    secret = fresh_secret()
    taker = await Server(settings={"LYCEUM__WEBHOOKS__RECEIVE_SECRET": secret}).ready()
    try:
        url = f"{taker.url}/v1/webhooks/attendance"
        server, receiver = await told()
        session = unique("room")
        meeting_id = await meeting(server, session)
        body = next(r["body"] for r in await receiver.ended(session) if r["event"]["type"] == "session.ended")

        def signed(by: str, age_s: int = 0, id: str = "msg_1") -> dict[str, str]:
            at = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=age_s)
            return {
                "webhook-id": id,
                "webhook-timestamp": str(int(at.timestamp())),
                "webhook-signature": Webhook(by).sign(id, at, body.decode()),
            }

        send = lambda headers, body=body: asyncio.to_thread(post, url, body, headers)
        for headers, sent, status, code in [
            ({}, body, 401, "auth/missing"),
            (signed(fresh_secret()), body, 401, "auth/invalid"),
            (signed(secret), body + b" ", 401, "auth/invalid"),
            (signed(secret, age_s=400), body, 401, "auth/expired"),
            (signed(secret) | {"webhook-timestamp": "soon"}, body, 400, "request/invalid"),
        ]:
            answer = await send(headers, sent)
            assert (answer[0], answer[1]["code"]) == (status, code), answer
        assert await send(signed(secret)) == (200, {"ok": True, "isNew": True})
        assert await send(signed(secret)) == (200, {"ok": True, "isNew": False})
        with urllib.request.urlopen(f"{taker.url}/v1/meetings/{meeting_id}", timeout=30) as page:
            theirs = json.load(page)
        assert theirs["sessionId"] == session
        assert "whsec_" not in taker.said()
    finally:
        taker.stop()


async def test_an_endpoint_of_the_api_leads_only_where_it_may_and_can_be_told_again(told):
    server, hook = await told(LYCEUM__WEBHOOKS__ALLOW="127.0.0.1")
    strict, _ = await told()
    other = await Receiver("").start()
    try:
        wanted = json.dumps({"url": other.url}).encode()
        post_to = lambda server, path, body=b"": asyncio.to_thread(post, f"{server.url}/v1/webhooks{path}", body, {})
        status, refused = await post_to(strict, "", wanted)
        assert (status, refused["code"]) == (400, "request/invalid"), refused
        status, added = await post_to(server, "", wanted)
        assert status == 201, added
        other.secret = added["secret"]
        session = unique("room")
        await meeting(server, session)
        check(await other.ended(session), 2)
        check(await hook.ended(session), 2)
        first = {r["id"]: r["body"] for r in other.of(session)}
        other.requests.clear()
        status, _ = await post_to(server, f"/{added['endpoint']['id']}/replay?fromSeq=1&sessionId={session}")
        assert status in (200, 202)
        check(await other.ended(session), 2)
        assert {r["id"]: r["body"] for r in other.of(session)} == first, "the same ids and bodies"
    finally:
        await other.stop()


@pytest.mark.parametrize(("settings", "says"), [
    ({"LYCEUM__WEBHOOKS__URL": "https://school.example/hook"}, "[webhooks] secret is not"),
    ({"LYCEUM__WEBHOOKS__SECRET": "short"}, "expected whsec_ and 24 to 64 random bytes"),
    ({"LYCEUM__WEBHOOKS__RECEIVE_SECRET": "hush"}, "expected whsec_ and 24 to 64 random bytes"),
    ({"LYCEUM__WEBHOOKS__URL": "ftp://school.example/hush"}, "must begin with https:// or http://"),
])
async def test_settings_that_could_not_work_end_the_start(settings, says):
    with pytest.raises(RuntimeError) as ended:
        await Server(settings=settings).ready()
    assert says in str(ended.value) and "hush" not in str(ended.value)
