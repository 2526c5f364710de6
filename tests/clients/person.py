"""An unmodified python-socketio client that remembers everything it received."""

import asyncio
import itertools
import os
from typing import Any, Callable

import socketio

SOON_S = 20
_counter = itertools.count(1)


def unique(prefix: str) -> str:
    """A name nobody else in this run uses."""
    return f"{prefix}-py{os.getpid()}-{next(_counter)}"


class Person:
    def __init__(self, url: str, transport: str = "websocket"):
        self.url = url
        self.transport = transport
        self.log: list[tuple[str, Any]] = []
        self._news = asyncio.Condition()
        self.seat: dict[str, Any] = {}
        self.socket = socketio.AsyncClient(reconnection=False)
        self.socket.on("*", self._record)
        self.socket.on("disconnect", self._disconnected)

    async def _record(self, event: str, payload: Any = None) -> None:
        async with self._news:
            self.log.append((event, payload))
            self._news.notify_all()

    async def _disconnected(self, reason: str | None = None) -> None:
        await self._record("disconnect", reason)

    async def connect(self) -> "Person":
        await self.socket.connect(self.url, transports=[self.transport], wait_timeout=SOON_S)
        return self

    async def emit(self, event: str, payload: Any) -> dict[str, Any]:
        """Emits and gives the ack."""
        return await self.socket.call(event, payload, timeout=SOON_S)

    async def join(self, session: str, user: str, **more: Any) -> "Person":
        ack = await self.emit(
            "join-session",
            {"sessionId": session, "userId": user, "userName": f"Name of {user}", "isInstructor": False} | more,
        )
        assert ack["ok"] is True, ack
        self.seat = ack
        return self

    @property
    def session(self) -> str:
        return self.seat["sessionId"]

    @property
    def user(self) -> str:
        return self.seat["userId"]

    async def chat(self, message: str, **more: Any) -> dict[str, Any]:
        body = {"sessionId": self.session, "message": message, "userId": self.user, "userName": "x"}
        return await self.emit("chat-message", body | more)

    async def signal(self, kind: str, target: str, body: Any, **more: Any) -> dict[str, Any]:
        field = "candidate" if kind == "ice-candidate" else kind
        message = {"sessionId": self.session, "targetUserId": target, "userId": self.user, field: body}
        return await self.emit(kind, message | more)

    def all(self, event: str, since: int = 0) -> list[Any]:
        return [payload for name, payload in self.log[since:] if name == event]

    async def seen(
        self, event: str, accept: Callable[[Any], bool] = lambda _: True, since: int = 0, within: float = SOON_S
    ) -> Any:
        """The first payload of an event, past or to come, that `accept` takes."""

        def find() -> list[Any]:
            return [p for name, p in self.log[since:] if name == event and accept(p)][:1]

        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(lambda: bool(find()))
        except TimeoutError:
            raise AssertionError(f"no such {event} in {within} s; last received: {self.log[-6:]}") from None
        return find()[0]

    async def roster(self, accept: Callable[[dict[str, Any]], bool], since: int = 0, within: float = SOON_S) -> Any:
        """A roster, past or to come, that `accept` takes; it gets the entries by user."""
        return await self.seen(
            "participants-update", lambda m: accept({p["userId"]: p for p in m["participants"]}), since, within
        )

    async def drop(self) -> None:
        """The transport vanishes without a Socket.IO goodbye."""
        engine = self.socket.eio
        if self.transport == "websocket":
            await engine.ws.close()
        else:
            await engine.disconnect()

    async def close(self) -> None:
        if self.socket.connected:
            await self.socket.disconnect()


def refused(ack: dict[str, Any], *codes: str) -> None:
    assert ack["ok"] is False, ack
    assert ack["error"]["code"] in codes, ack
    assert ack["error"]["message"], "a refusal says why"
