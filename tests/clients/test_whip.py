"""aiortc publishes by WHIP and plays by WHEP, with plain HTTP and nothing of ours in between."""

import asyncio
import re
import signal

import aiohttp
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from lyceum_server import Server
from person import unique
from sfu_peer import Colour, Heard, Tone
from test_aiortc import ANN, BEN, COLOUR_ERROR_MAX, HERTZ_ERROR_MAX, JOIN_S_MAX, LATE_S_MAX, call, meet, until

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = "application/trickle-ice-sdpfrag"


class HttpPeer:
    """One RTCPeerConnection whose descriptions go over HTTP (RFC 9725)."""

    def __init__(self, http: aiohttp.ClientSession):
        self.http = http
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self.heard: dict[str, Heard] = {}
        self.pc.on("track", lambda track: self.heard.update({track.kind: Heard(track)}))
        self.location = ""
        self.etag = ""

    async def post(self, url: str) -> None:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        async with self.http.post(url, data=self.pc.localDescription.sdp, headers=SDP) as response:
            text = await response.text()
            assert response.status == 201, text
            assert response.content_type == "application/sdp"
            self.location, self.etag = response.headers["Location"], response.headers["ETag"]
        await self.pc.setRemoteDescription(RTCSessionDescription(text, "answer"))

    async def publish(self, url: str, look) -> "HttpPeer":
        rgb, hertz = look
        self.pc.addTrack(Tone(hertz))
        self.pc.addTrack(Colour(rgb))
        await self.post(url)
        return self

    async def play(self, url: str) -> "HttpPeer":
        self.pc.addTransceiver("audio", direction="recvonly")
        self.pc.addTransceiver("video", direction="recvonly")
        await self.post(url)
        return self

    def shows(self, look) -> bool:
        video, audio = self.heard.get("video"), self.heard.get("audio")
        if not (video and video.frames and audio and len(audio.frames) == audio.frames.maxlen):
            return False
        seen = all(abs(got - sent) < COLOUR_ERROR_MAX for got, sent in zip(video.rgb(), look[0], strict=True))
        return seen and abs(audio.hertz() - look[1]) < HERTZ_ERROR_MAX

    async def close(self) -> None:
        for heard in self.heard.values():
            heard.task.cancel()
        await self.pc.close()


async def test_a_publisher_by_whip_is_seen_in_the_call_and_leaves_by_delete(person, server):
    session = unique("whip")
    async with aiohttp.ClientSession(server.url) as http:
        ann = await call(person, session, ANN)
        studio = await HttpPeer(http).publish(f"/whip/{session}?userId=studio&userName=Studio", BEN)
        try:
            roster = await ann.person.roster(lambda r: len(r.get("studio", {}).get("tracks", [])) == 2)
            entry = next(p for p in roster["participants"] if p["userId"] == "studio")
            assert (entry["userName"], entry["role"], entry["state"]) == ("Studio", "participant", "connected")

            def seen() -> bool:
                video = ann.heard_of(entry["participantId"], "video")
                audio = ann.heard_of(entry["participantId"], "audio")
                if not (video and video.frames and audio and len(audio.frames) == audio.frames.maxlen):
                    return False
                near = all(abs(got - sent) < COLOUR_ERROR_MAX for got, sent in zip(video.rgb(), BEN[0], strict=True))
                return near and abs(audio.hertz() - BEN[1]) < HERTZ_ERROR_MAX

            await until("ann sees and hears the studio", seen, JOIN_S_MAX, ann)

            # Candidates are taken and not needed; a stale ETag is refused; the method and type are checked.
            local = studio.pc.localDescription.sdp
            ufrag, pwd = (re.search(rf"(?m)^a=ice-{n}:(\S+)", local).group(1) for n in ("ufrag", "pwd"))
            trickle = f"a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=end-of-candidates\r\n"
            expected = [
                (trickle, {"Content-Type": FRAGMENT, "If-Match": studio.etag}, 204),
                (trickle, {"Content-Type": FRAGMENT, "If-Match": '"99"'}, 412),
                (trickle, {"Content-Type": FRAGMENT}, 428),
                (trickle, {"Content-Type": "text/plain", "If-Match": studio.etag}, 415),
            ]
            for body, headers, status in expected:
                async with http.patch(studio.location, data=body, headers=headers) as response:
                    assert response.status == status, await response.text()

            # A restart gives a new ICE session under a new ETag. aiortc cannot use it, so this is the last of the peer.
            restart = trickle.replace(ufrag, "abcdefgh").replace(pwd, "abcdefghijklmnopqrstuvwx")
            async with http.patch(studio.location, data=restart, headers={"Content-Type": FRAGMENT, "If-Match": "*"}) as response:
                fragment = await response.text()
                assert (response.status, response.content_type) == (200, FRAGMENT), fragment
                assert response.headers["ETag"] != studio.etag
                assert re.search(r"(?m)^a=ice-ufrag:\S+", fragment) and "a=candidate:" in fragment
            async with http.delete(studio.location) as response:
                assert response.status == 200
            await ann.person.seen("user-left", lambda m: m["participantId"] == entry["participantId"])
            async with http.delete(studio.location) as response:
                assert response.status == 404
                assert (await response.json(content_type="application/problem+json"))["code"] == "media/unknown_resource"
        finally:
            await asyncio.gather(ann.close(), studio.close())


async def test_a_player_by_whep_sees_who_publishes_and_is_in_no_roster(person, server):
    session = unique("whep")
    async with aiohttp.ClientSession(server.url) as http:
        async with http.post(f"/whep/{session}", data="v=0", headers=SDP) as response:
            assert response.status == 404 and int(response.headers["Retry-After"]) > 0
        studio = await HttpPeer(http).publish(f"/whip/{session}?userId=studio", BEN)
        player = await HttpPeer(http).play(f"/whep/{session}")
        try:
            await until("the player shows the studio", lambda: player.shows(BEN), JOIN_S_MAX)
            ann = await call(person, session, ANN)
            roster = await ann.person.roster(lambda r: {"studio", ann.person.user} <= r.keys())
            assert len(roster["participants"]) == 2, "a player is nobody's participant"
            await ann.close()
            async with http.delete(player.location) as response:
                assert response.status == 200
        finally:
            await asyncio.gather(studio.close(), player.close())


async def test_an_end_waits_for_publishers_and_not_for_players():
    server = await Server(settings={"LYCEUM__ADMIN__DRAIN_S": "3600"}).ready()
    try:
        async with aiohttp.ClientSession(server.url) as http:
            session = unique("drain")
            studio = await HttpPeer(http).publish(f"/whip/{session}?userId=studio", BEN)
            player = await HttpPeer(http).play(f"/whep/{session}")
            try:
                await until("the player shows the studio", lambda: player.shows(BEN), JOIN_S_MAX)
                server.process.send_signal(signal.SIGTERM)
                await until("nobody new gets in", lambda: "nobody new gets in" in server.said(), LATE_S_MAX)
                async with http.post(f"/whep/{session}", data="v=0", headers=SDP) as response:
                    problem = await response.json(content_type=None)
                    assert (response.status, problem["code"]) == (503, "server/draining")
                assert server.process.poll() is None, "somebody publishes"
                async with http.delete(studio.location) as response:
                    assert response.status == 200
                await until("it has ended", lambda: server.process.poll() is not None, LATE_S_MAX)
                assert server.process.poll() == 0
            finally:
                await asyncio.gather(studio.close(), player.close())
    finally:
        server.stop()


async def test_requests_that_cannot_be_served_say_why(person, server):
    async with aiohttp.ClientSession(server.url) as http:
        expected = [
            ("/whip/x?userId=a", "v=0", SDP, 400, "media/invalid_sdp"),
            ("/whip/x", "v=0", SDP, 400, "request/invalid"),
            ("/whip/x?userId=sfu", "v=0", SDP, 400, "request/invalid"),
            ("/whip/x?userId=a", "v=0", {"Content-Type": "application/json"}, 415, "request/invalid"),
            ("/whep/nobody", "v=0", SDP, 404, "session/not_live"),
        ]
        for url, body, headers, status, code in expected:
            async with http.post(url, data=body, headers=headers) as response:
                assert response.status == status, await response.text()
                problem = await response.json(content_type="application/problem+json")
                assert problem["code"] == code and problem["detail"]
        async with http.post("/whip/x?userId=a", data="v" * 300_000, headers=SDP) as response:
            assert response.status == 413
        async with http.options("/whip/x") as response:
            assert response.status == 204 and response.headers["Accept-Post"] == "application/sdp"
