"""Spans of the real binary, read by the classes that OpenTelemetry generates from its own protocol files."""

import asyncio
import base64
import json

from aiohttp import web
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from lyceum_server import Server
from person import Person, unique

# Several times as long as spans are gathered.
SOON_S = 60
IDS = ("traceId", "spanId", "parentSpanId")


def parse(body: bytes) -> ExportTraceServiceRequest:
    """OTLP writes ids in hexadecimal, where JSON of protocol buffers has base64; all else is as there."""

    def in_base64(fields: dict) -> dict:
        return {k: base64.b64encode(bytes.fromhex(v)).decode() if k in IDS else v for k, v in fields.items()}

    return json_format.Parse(json.dumps(json.loads(body, object_hook=in_base64)), ExportTraceServiceRequest())


async def test_a_join_and_its_way_into_the_database_are_spans():
    spans, news = [], asyncio.Event()

    async def take(request: web.Request) -> web.Response:
        assert request.headers["content-type"] == "application/json"
        for resource in parse(await request.read()).resource_spans:
            names = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
            assert names["service.name"] == "lyceum" and names["service.version"]
            spans.extend(span for scope in resource.scope_spans for span in scope.spans)
        news.set()
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector = f"http://127.0.0.1:{runner.addresses[0][1]}"
    server = await Server(settings={"OTEL_EXPORTER_OTLP_ENDPOINT": collector}).ready()
    try:
        session = unique("traced")
        person = await Person(server.url).connect()
        await person.join(session, "ada")
        await person.close()

        async def both():
            while not {"join", "database"} <= {span.name for span in spans}:
                news.clear()
                await news.wait()

        await asyncio.wait_for(both(), SOON_S)
        join = next(span for span in spans if span.name == "join")
        assert (len(join.trace_id), len(join.span_id), join.parent_span_id) == (16, 8, b"")
        assert join.kind == join.SPAN_KIND_SERVER and join.start_time_unix_nano <= join.end_time_unix_nano
        assert [(it.key, it.value.string_value) for it in join.attributes] == [("lyceum.session", session)]
        facts = next(span for span in spans if span.name == "database").attributes[0]
        assert facts.key == "lyceum.facts" and facts.value.int_value > 0
    finally:
        server.stop()
        await runner.cleanup()
