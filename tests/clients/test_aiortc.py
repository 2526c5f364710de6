"""aiortc publishes to and subscribes from the SFU; what arrives is checked by its colour and its tone."""

import asyncio
import re

from aiortc import RTCDataChannel

from person import unique
from sfu_peer import Colour, SfuPeer, Tone

# Several times what is seen on a machine that has little else to do.
JOIN_S_MAX = 45
LATE_S_MAX = 25
# Longer than any gap between two pictures that come.
STILL_S = 1
COLOUR_ERROR_MAX = 30
# A second of sound resolves 1 Hz; what Opus and a lost packet add is far below this.
HERTZ_ERROR_MAX = 10

ANN = ((200, 40, 40), 440)
BEN = ((40, 160, 60), 700)
CEM = ((50, 60, 210), 1_000)


async def until(what: str, check, within: float, *peers: SfuPeer) -> None:
    """Polls decoded media, which has no event of its own."""
    end = asyncio.get_running_loop().time() + within
    while not check():
        for peer in peers:
            if peer.failure is not None:
                raise AssertionError(f"{peer.person.user} could not negotiate") from peer.failure
        assert asyncio.get_running_loop().time() < end, f"not in {within} s: {what}"
        await asyncio.sleep(0.05)


def sees(viewer: SfuPeer, shown: SfuPeer, look) -> bool:
    heard = viewer.heard_of(shown.person.seat["participantId"], "video")
    if heard is None or not heard.frames:
        return False
    return all(abs(got - sent) < COLOUR_ERROR_MAX for got, sent in zip(heard.rgb(), look[0], strict=True))


def hears(listener: SfuPeer, speaker: SfuPeer, look) -> bool:
    heard = listener.heard_of(speaker.person.seat["participantId"], "audio")
    if heard is None or len(heard.frames) < heard.frames.maxlen:
        return False
    return abs(heard.hertz() - look[1]) < HERTZ_ERROR_MAX


async def call(person, session: str, look=None, relay: str = "") -> SfuPeer:
    """Joins; with a look it publishes, without one it only receives."""
    more = {} if look else {"media": "sfu"}
    peer = SfuPeer(await (await person()).join(session, unique("rtc"), **more), relay)
    if look:
        rgb, hertz = look
        await peer.publish(Tone(hertz), Colour(rgb))
    return peer


async def meet(viewer: SfuPeer, shown: SfuPeer, look, within: float) -> None:
    name = f"{viewer.person.user} sees {shown.person.user}"
    await until(f"{name} in {look[0]}", lambda: sees(viewer, shown, look), within, viewer, shown)
    await until(f"{name}, sounding at {look[1]} Hz", lambda: hears(viewer, shown, look), within, viewer, shown)


async def grows(viewer: SfuPeer, shown: SfuPeer) -> None:
    """Frames keep coming."""
    for kind in ("video", "audio"):
        heard = viewer.heard_of(shown.person.seat["participantId"], kind)
        before = heard.count
        await until(f"{kind} goes on", lambda h=heard, b=before: h.count >= b + 10, LATE_S_MAX, viewer)


async def test_a_call_with_a_late_joiner_and_a_leave(person):
    session = unique("call")
    peers: list[SfuPeer] = []
    try:
        ann = await call(person, session, ANN)
        peers.append(ann)
        ben = await call(person, session, BEN)
        peers.append(ben)
        await asyncio.gather(meet(ann, ben, BEN, JOIN_S_MAX), meet(ben, ann, ANN, JOIN_S_MAX))

        # The m-line, the description and the roster name the same person.
        for viewer, shown in ((ann, ben), (ben, ann)):
            pid = shown.person.seat["participantId"]
            described = {t["source"]: t for t in viewer.described.values() if t["participantId"] == pid}
            assert described.keys() == {"camera", "microphone"}
            for track in described.values():
                assert viewer.streams[track["trackId"]] == pid
            await viewer.person.roster(
                lambda r, u=shown.person.user, d=described: u in r
                and {(t["source"], t["trackId"]) for t in r[u]["tracks"]} == {(s, t["trackId"]) for s, t in d.items()}
            )

        # A late joiner that publishes is seen by all and sees all; one that only receives gets the server's offer.
        cem = await call(person, session, CEM)
        peers.append(cem)
        watcher = await call(person, session)
        peers.append(watcher)
        await asyncio.gather(
            meet(cem, ann, ANN, LATE_S_MAX), meet(cem, ben, BEN, LATE_S_MAX), meet(ann, cem, CEM, LATE_S_MAX),
            meet(ben, cem, CEM, LATE_S_MAX), meet(watcher, ann, ANN, LATE_S_MAX), meet(watcher, cem, CEM, LATE_S_MAX),
        )

        # Whoever leaves is gone at once, and the others go on looking and sounding like themselves.
        assert (await ben.person.emit("leave-session", {"sessionId": session}))["ok"] is True
        gone = ben.person.seat["participantId"]
        await asyncio.gather(*(p.person.seen("user-left", lambda m: m["participantId"] == gone) for p in (ann, cem, watcher)))
        await asyncio.gather(grows(ann, cem), grows(cem, ann), grows(watcher, ann), grows(watcher, cem))
        await asyncio.gather(meet(ann, cem, CEM, LATE_S_MAX), meet(cem, ann, ANN, LATE_S_MAX), meet(watcher, ann, ANN, LATE_S_MAX))

        # The freed m-lines are used again: who comes now must not look like who left.
        dan = await call(person, session, BEN)
        peers.append(dan)
        await asyncio.gather(meet(ann, dan, BEN, LATE_S_MAX), meet(watcher, dan, BEN, LATE_S_MAX), meet(dan, cem, CEM, LATE_S_MAX))
        await grows(ann, cem)
    finally:
        await asyncio.gather(*(p.close() for p in peers))


async def test_a_track_can_be_muted_and_a_subscription_stopped(person):
    session = unique("call")
    ann = await call(person, session, ANN)
    ben = await call(person, session, BEN)
    try:
        await asyncio.gather(meet(ann, ben, BEN, JOIN_S_MAX), meet(ben, ann, ANN, JOIN_S_MAX))
        pid = ann.person.seat["participantId"]
        camera = next(t for t in ben.described.values() if t["participantId"] == pid and t["source"] == "camera")
        assert (await ann.person.emit("track-update", {"trackId": camera["trackId"], "muted": True}))["ok"] is True
        await ben.person.roster(
            lambda r: any(t["muted"] for t in r[ann.person.user]["tracks"] if t["trackId"] == camera["trackId"])
        )
        assert (await ann.person.emit("track-update", {"trackId": camera["trackId"], "muted": False}))["ok"] is True
        # Nobody mutes another's track.
        assert (await ben.person.emit("track-update", {"trackId": camera["trackId"], "muted": True}))["ok"] is False

        stop = {"trackId": camera["trackId"], "enabled": False}
        assert (await ben.person.emit("subscription", stop))["ok"] is True
        video = ben.heard_of(pid, "video")
        # What was on its way arrives; then there is a second without one frame.
        async with asyncio.timeout(LATE_S_MAX):
            before = -1
            while video.count != before:
                before = video.count
                await asyncio.sleep(STILL_S)
        assert (await ben.person.emit("subscription", stop | {"enabled": True}))["ok"] is True
        await until("the picture comes back", lambda: video.count > before + 10, LATE_S_MAX, ben)
        await meet(ben, ann, ANN, LATE_S_MAX)
    finally:
        await asyncio.gather(ann.close(), ben.close())


async def test_data_channels_beside_media_and_alone(person):
    session = unique("data")
    peers: list[SfuPeer] = []
    channels: list[RTCDataChannel] = []
    came: list[list[str | bytes]] = [[], []]
    try:
        for look, heard in ((ANN, came[0]), (None, came[1])):
            peer = SfuPeer(await (await person()).join(session, unique("rtc")))
            peers.append(peer)
            # Before the channel: aiortc closes the transport of one that it made first when the answer bundles it.
            if look:
                peer.pc.addTrack(Tone(look[1]))
            channels.append(peer.pc.createDataChannel("data"))
            channels[-1].on("message", heard.append)
            await peer.publish()
        await until("both channels open", lambda: all(c.readyState == "open" for c in channels), JOIN_S_MAX, *peers)
        ids = [peer.person.seat["participantId"] for peer in peers]
        long = bytes(range(256)) * 200
        for at in range(2):
            channels[at].send("\nto all")
            channels[at].send(ids[1 - at].encode() + b"\n" + long)
            expected = [f"{ids[at]}\nto all", ids[at].encode() + b"\n" + long]
            await until("both messages come", lambda e=expected, h=came[1 - at]: h == e, LATE_S_MAX, *peers)
    finally:
        await asyncio.gather(*(peer.close() for peer in peers))


async def test_a_call_by_turn_alone(person):
    session = unique("relayed")
    peers: list[SfuPeer] = []
    try:
        for look, relay in ((ANN, "udp"), (BEN, "tcp")):
            peers.append(await call(person, session, look, relay))
        ann, ben = peers
        await asyncio.gather(meet(ann, ben, BEN, JOIN_S_MAX), meet(ben, ann, ANN, JOIN_S_MAX))
        await asyncio.gather(grows(ann, ben), grows(ben, ann))
        for peer in peers:
            kinds = set(re.findall(r"(?m)^a=candidate:.* typ (\w+)", peer.pc.localDescription.sdp))
            assert kinds == {"relay"}
    finally:
        await asyncio.gather(*(peer.close() for peer in peers))
