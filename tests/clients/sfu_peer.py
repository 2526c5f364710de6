"""An aiortc peer that publishes a colour and a tone through the SFU, and sees and hears the others."""

import asyncio
import collections
import fractions
import re
from typing import Any, Iterable

import av
import numpy
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceServer,
    RTCIceTransportPolicy,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError

from person import Person

SAMPLE_RATE = 48_000
SAMPLES_PER_FRAME = 960
FRAMES_PER_SECOND = 15
WIDTH, HEIGHT = 320, 180
# A second of sound gives a resolution of 1 Hz.
SOUND_FRAMES_KEPT = 50
PICTURES_KEPT = 10


class Colour(MediaStreamTrack):
    """Pictures of one colour with a little movement, so that the encoder has something to do."""

    kind = "video"

    def __init__(self, rgb: tuple[int, int, int]):
        super().__init__()
        self.rgb = rgb
        self.sent = 0

    async def recv(self) -> av.VideoFrame:
        await asyncio.sleep(1 / FRAMES_PER_SECOND)
        picture = numpy.full((HEIGHT, WIDTH, 3), self.rgb, numpy.uint8)
        left = self.sent * 4 % (WIDTH - 8)
        picture[:8, left : left + 8] = 255
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = self.sent * 90_000 // FRAMES_PER_SECOND
        frame.time_base = fractions.Fraction(1, 90_000)
        self.sent += 1
        return frame


class Tone(MediaStreamTrack):
    """A sine, paced by the loop's clock so that it neither starves nor runs ahead."""

    kind = "audio"

    def __init__(self, hertz: int):
        super().__init__()
        self.hertz = hertz
        self.sent = 0
        self.started: float | None = None

    async def recv(self) -> av.AudioFrame:
        now = asyncio.get_running_loop().time()
        self.started = self.started or now
        await asyncio.sleep(max(0, self.started + self.sent / SAMPLE_RATE - now))
        t = (self.sent + numpy.arange(SAMPLES_PER_FRAME)) / SAMPLE_RATE
        wave = (numpy.sin(2 * numpy.pi * self.hertz * t) * 12_000).astype(numpy.int16)
        frame = av.AudioFrame.from_ndarray(wave[numpy.newaxis], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts = self.sent
        frame.time_base = fractions.Fraction(1, SAMPLE_RATE)
        self.sent += SAMPLES_PER_FRAME
        return frame


class Heard:
    """What came last on one received track, and how much in all."""

    def __init__(self, track: MediaStreamTrack):
        self.track = track
        self.count = 0
        self.frames: collections.deque[Any] = collections.deque(
            maxlen=SOUND_FRAMES_KEPT if track.kind == "audio" else PICTURES_KEPT
        )
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while True:
                self.frames.append(await self.track.recv())
                self.count += 1
        except MediaStreamError:
            return

    def rgb(self) -> tuple[float, ...]:
        """The middle colour of the newest picture."""
        picture = self.frames[-1].to_ndarray(format="rgb24")
        height, width, _ = picture.shape
        middle = picture[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4]
        return tuple(float(c) for c in middle.reshape(-1, 3).mean(axis=0))

    def hertz(self) -> float:
        """The strongest frequency of about the last second."""
        channels = self.frames[-1].layout.nb_channels
        parts = [f.to_ndarray().reshape(-1, channels)[:, 0] for f in self.frames]
        wave = numpy.concatenate(parts).astype(float)
        spectrum = numpy.abs(numpy.fft.rfft(wave * numpy.hanning(len(wave))))
        return float(spectrum[1:].argmax() + 1) * self.frames[-1].sample_rate / len(wave)


def sections(sdp: str) -> list[str]:
    """The session part and then one string for each m-line."""
    return re.split(r"(?m)^(?=m=)", sdp)


def mid_of(section: str) -> str | None:
    found = re.search(r"(?m)^a=mid:(\S+)", section)
    return found and found.group(1)


def is_rejected(section: str) -> bool:
    return re.match(r"m=\w+ 0 ", section) is not None


def rejection(section: str) -> str:
    """The answer to a rejected m-line."""
    mid = mid_of(section)
    lines = [section.splitlines()[0], "c=IN IP4 0.0.0.0", *([f"a=mid:{mid}"] if mid else []), "a=inactive"]
    return "".join(f"{line}\r\n" for line in lines)


def bundled(session: str, mids: Iterable[str]) -> str:
    """The session part with these mids in its BUNDLE group."""
    return re.sub(r"(?m)^a=group:BUNDLE[^\r\n]*", f"a=group:BUNDLE {' '.join(mids)}", session)


class SfuPeer:
    """One RTCPeerConnection of the polite side. aiortc has no rollback, so offers are made and taken only when stable."""

    def __init__(self, person: Person, relay: str = ""):
        """With `relay`, `udp` or `tcp`, media goes by that TURN server of the join alone."""
        self.person = person
        # Its default policy has a transport for each kind and, taking an offer, closes the second under all but the first
        # m-line of that kind: four m-lines in a first offer never connect.
        configuration = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        if relay:
            configuration.iceTransportPolicy = RTCIceTransportPolicy.RELAY
            configuration.iceServers = [
                RTCIceServer([url], ice["username"], ice["credential"])
                for ice in person.seat["iceServers"]
                for url in ice["urls"]
                if url.endswith(f"?transport={relay}") and not url.startswith("turns:")
            ]
        self.pc = RTCPeerConnection(configuration)
        # Received tracks, and what the server says of its tracks, both by mid.
        self.heard: dict[str, Heard] = {}
        self.described: dict[str, dict[str, Any]] = {}
        # The participant that `a=msid` names, by track id.
        self.streams: dict[str, str] = {}
        self.failure: BaseException | None = None
        # What aiortc was last shown of each m-line, by mid, in its own order.
        self._shown: dict[str, str] = {}
        self._read = 0
        self._answered = asyncio.Event()
        self.pc.on("track", self._on_track)
        self._task = asyncio.create_task(self._negotiate())

    def _on_track(self, track: MediaStreamTrack) -> None:
        # By mid, since aiortc takes the track's id from the SDP only where an `a=msid-semantic` is.
        mid = next(t.mid for t in self.pc.getTransceivers() if t.receiver.track is track)
        self.heard[mid] = Heard(track)

    async def publish(self, *tracks: MediaStreamTrack) -> None:
        """Offers the tracks; the first video is a camera, the first audio a microphone."""
        for track in tracks:
            self.pc.addTrack(track)
        await self.pc.setLocalDescription(await self.pc.createOffer())
        local = self.pc.localDescription
        ack = await self.person.signal("offer", "sfu", {"type": local.type, "sdp": local.sdp})
        assert ack["ok"] is True, ack
        async with asyncio.timeout(10):
            await self._answered.wait()

    def heard_of(self, participant: str, kind: str) -> Heard | None:
        """The newest track of a kind of one participant."""
        found = [
            h for mid, h in self.heard.items()
            if h.track.kind == kind and self.described.get(mid, {}).get("participantId") == participant
        ]
        return found[-1] if found else None

    async def close(self) -> None:
        self._task.cancel()
        for heard in self.heard.values():
            heard.task.cancel()
        await self.pc.close()

    async def _negotiate(self) -> None:
        """Takes the server's offers and answers one after another, in order."""
        try:
            while True:
                kind, message = await self._next()
                self._describe(message)
                if kind == "answer":
                    if self.pc.signalingState == "have-local-offer":
                        await self.pc.setRemoteDescription(RTCSessionDescription(message["answer"]["sdp"], "answer"))
                        self._answered.set()
                    continue
                if self.pc.signalingState != "stable":
                    continue
                await self._answer(message["offer"]["sdp"])
        except Exception as error:
            self.failure = error
            raise

    async def _next(self) -> tuple[str, Any]:
        def waiting() -> list[tuple[int, str, Any]]:
            return [
                (i, name, p) for i, (name, p) in enumerate(self.person.log)
                if i >= self._read and name in ("offer", "answer") and p["userId"] == "sfu"
            ][:1]

        async with self.person._news:
            await self.person._news.wait_for(lambda: bool(waiting()))
        at, name, payload = waiting()[0]
        self._read = at + 1
        return name, payload

    def _describe(self, message: dict[str, Any]) -> None:
        for track in message.get("tracks", []):
            known = self.described.setdefault(track["mid"], track)
            assert known["trackId"] == track["trackId"], "a mid never changes its track"
        for section in sections((message.get("offer") or message["answer"])["sdp"])[1:]:
            msid = re.search(r"(?m)^a=msid:(\S+) (\S+)", section)
            if msid and not is_rejected(section):
                self.streams[msid.group(2)] = msid.group(1)

    async def _answer(self, sdp: str) -> None:
        """Answers the server's offer.

        aiortc knows neither rejected nor recycled m-lines, so it is shown one m-line for each mid that there ever was,
        the dead ones inactive; the answer is put together in the offer's order again.
        """
        session, *offered = sections(sdp)
        live = {mid_of(section): section for section in offered if not is_rejected(section)}
        for mid in self._shown.keys() - live.keys():
            self._shown[mid] = re.sub(r"(?m)^a=(sendonly|recvonly|sendrecv)", "a=inactive", self._shown[mid])
        self._shown |= live
        shown = bundled(session, self._shown) + "".join(self._shown.values())
        await self.pc.setRemoteDescription(RTCSessionDescription(shown, "offer"))
        await self.pc.setLocalDescription(await self.pc.createAnswer())
        session, *answered = sections(self.pc.localDescription.sdp)
        mine = {mid_of(section): section for section in answered}
        media = [rejection(section) if is_rejected(section) else mine[mid_of(section)] for section in offered]
        answer = bundled(session, live) + "".join(media)
        ack = await self.person.signal("answer", "sfu", {"type": "answer", "sdp": answer})
        assert ack["ok"] is True, ack
