"""The main flows again with python-socketio, over both transports."""

import asyncio
import time

import pytest

from person import SOON_S, refused, unique

# The default grace time.
GRACE_S = 20

pytestmark = pytest.mark.parametrize("transport", ["websocket", "polling"])


async def two(person, transport):
    session = unique("room")
    a = await (await person(transport)).join(session, unique("ann"), isInstructor=True)
    b = await (await person(transport)).join(session, unique("ben"))
    for each in (a, b):
        await each.roster(lambda r: {a.user, b.user} <= r.keys())
    return a, b


async def test_join_and_roster(person, transport):
    a, b = await two(person, transport)
    fields = {
        "ok", "sessionId", "meetingId", "userId", "participantId", "role", "permissions", "participants",
        "iceServers", "resumeToken", "resumed",
    }
    assert fields <= b.seat.keys()
    assert b.seat["resumed"] is False
    assert b.seat["meetingId"] == a.seat["meetingId"] and b.seat["meetingId"].startswith("mtg_")
    joined = await a.seen("user-joined")
    assert joined["participantId"] == b.seat["participantId"]
    assert joined["userName"] == f"Name of {b.user}"
    roster = await b.seen("participants-update", lambda m: len(m["participants"]) == 2)
    entries = {p["userId"]: p for p in roster["participants"]}
    assert entries[a.user]["isInstructor"] is True and entries[b.user]["isInstructor"] is False
    assert entries[a.user]["state"] == "connected" and entries[a.user]["tracks"] == []
    assert entries[a.user]["handRaised"] is False


async def test_relay(person, transport):
    a, b = await two(person, transport)
    for kind, field in (("offer", "offer"), ("answer", "answer"), ("ice-candidate", "candidate")):
        body = {"type": kind, "sdp": "not looked into", "nested": [1, {"x": None}]}
        assert (await a.signal(kind, b.user, body, unknown={"kept": 1}))["ok"] is True
        assert await b.seen(kind) == {
            "sessionId": a.session, "userId": a.user, "targetUserId": b.user, field: body, "unknown": {"kept": 1},
        }
        assert a.all(kind) == []
    refused(await a.signal("offer", "nobody", {}), "session/unknown_target")


async def test_chat(person, transport):
    a, b = await two(person, transport)
    ack = await a.chat("grüß dich 👋", clientId="c1")
    assert ack["ok"] is True and abs(ack["timestamp"] / 1000 - time.time()) < 60
    for reader in (a, b):
        got = await reader.seen("chat-message")
        assert (got["id"], got["message"], got["userId"], got["clientId"], got["timestamp"]) == (
            ack["id"], "grüß dich 👋", a.user, "c1", ack["timestamp"],
        )
    again = await a.chat("grüß dich 👋", clientId="c1")
    assert again["id"] == ack["id"]
    fence = await a.chat("fence")
    await b.seen("chat-message", lambda m: m["id"] == fence["id"])
    assert len(b.all("chat-message")) == 2


async def test_hands_and_reactions(person, transport):
    a, b = await two(person, transport)
    first = await b.emit("raise-hand", {"raised": True})
    second = await a.emit("raise-hand", {"raised": True})
    assert second["position"] == first["position"] + 1
    await a.roster(lambda r: r[a.user]["handRaised"] and r[b.user]["handRaised"])
    since = len(a.log)
    assert (await b.emit("raise-hand", {"raised": False}))["ok"] is True
    await a.roster(lambda r: not r[b.user]["handRaised"], since)
    assert (await b.emit("reaction", {"emoji": "🎉"}))["ok"] is True
    assert (await a.seen("reaction"))["emoji"] == "🎉"


async def test_refusals(person, transport):
    a, _ = await two(person, transport)
    refused(await a.emit("no-such-event", {}), "request/invalid")
    for event in ("join-session", "offer", "chat-message", "subscription", "track-update", "raise-hand", "reaction"):
        for payload in ("text", 42, [1], True):
            refused(await a.emit(event, payload), "request/invalid")
    refused(await a.chat("x" * 4097), "request/invalid")
    join = {"userName": "x", "isInstructor": False}
    fresh = await person(transport)
    refused(await fresh.emit("join-session", join | {"sessionId": "x" * 129, "userId": "u"}), "request/invalid")
    refused(await fresh.emit("join-session", join | {"sessionId": "a\x00b", "userId": "u"}), "request/invalid")
    refused(
        await fresh.emit("join-session", join | {"sessionId": unique("room"), "userId": "sfu"}),
        "request/invalid", "session/forbidden",
    )


async def test_numbers_and_early_events(person, transport):
    early = await person(transport)
    session = unique("room")
    held = asyncio.create_task(
        early.emit("chat-message", {"sessionId": session, "message": "early", "userId": 5, "userName": "x"})
    )
    await asyncio.sleep(0.2)
    assert not held.done(), "held until the join"
    await early.join(session, 5)
    assert early.user == "5"
    assert (await held)["ok"] is True
    never = await person(transport)
    start = time.monotonic()
    refused(await never.emit("raise-hand", {"raised": True}), "session/not_joined")
    assert 1.2 < time.monotonic() - start < SOON_S


async def test_leave_and_clean_disconnect(person, transport):
    a, b = await two(person, transport)
    assert (await a.emit("leave-session", {"sessionId": a.session}))["ok"] is True
    left = await b.seen("user-left")
    assert left["participantId"] == a.seat["participantId"] and left["reason"]
    c = await (await person(transport)).join(b.session, unique("cem"))
    await b.roster(lambda r: c.user in r)
    since = len(b.log)
    await c.socket.disconnect()
    if transport == "polling":
        await b.seen("user-left", lambda m: m["userId"] == c.user, within=GRACE_S / 2)
    else:
        # python-socketio closes its WebSocket before the queued goodbye is written, so the server cannot
        # tell this from a lost connection: gone or in its grace time are both right.
        await b.roster(lambda r: c.user not in r or r[c.user]["state"] == "reconnecting", since)


async def test_resume(person, transport):
    a, b = await two(person, transport)
    since = len(b.log)
    await a.drop()
    await b.roster(lambda r: r[a.user]["state"] == "reconnecting", since)
    noticed = len(b.log)
    back = await (await person(transport)).join(a.session, a.user, resumeToken=a.seat["resumeToken"])
    assert back.seat["resumed"] is True
    assert back.seat["participantId"] == a.seat["participantId"]
    await b.roster(lambda r: r[a.user]["state"] == "connected", noticed)
    assert b.all("user-left", since) == []


async def test_replace(person, transport):
    a, b = await two(person, transport)
    newest = await (await person(transport)).join(a.session, a.user)
    assert newest.seat["resumed"] is False
    assert (await a.seen("session-error"))["code"] == "session/replaced"
    assert await a.seen("disconnect") == "server disconnect"
    message = await newest.chat("here")
    await b.seen("chat-message", lambda m: m["id"] == message["id"])
