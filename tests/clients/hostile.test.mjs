// Hostile transports, as far as they need no token. After each, the server is healthy and others can talk.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import zlib from 'node:zlib';
import { people, stillWell } from './lib/client.mjs';
import { handshake, PATH, RawSocket, request, tcp } from './lib/raw.mjs';
import { startServer } from './lib/server.mjs';

/** More growth than this is no longer noise of an allocator. */
const GROWTH_KB_MAX = 120_000;
const HEADERS_MS_MAX = 10_000;
const BODY_MS_MAX = 30_000;
/** What a busy machine may take longer. */
const SLACK_MS = 20_000;
/** A held-up room would be so until the reader is given up. */
const HELD_UP_MS = 10_000;
const PLAIN = { 'content-type': 'text/plain;charset=UTF-8' };

let server;
let rssKbBefore;
before(async () => { server = await startServer(); await stillWell(server); rssKbBefore = server.rssKb(); });
after(async () => { await server?.stop(); });

/** Whether a raw socket still answers: an event with an ack is acked. */
async function answers(raw) {
  raw.send('42987654["no-such-event",{}]');
  return (await raw.text((t) => t.startsWith('43987654'))) !== undefined;
}

describe('E: hostile transports', { concurrency: true }, () => {
  afterEach(() => stillWell(server));

  test('the handshake says what docs/protocol.md says', async () => {
    const hello = await handshake(server);
    assert.equal(hello.pingInterval, 10_000);
    assert.equal(hello.pingTimeout, 10_000);
    assert.ok(hello.maxPayload > 0 && hello.maxPayload <= 1_048_576, `maxPayload ${hello.maxPayload}`);
    const old = await request(server, { path: '/socket.io/?EIO=3&transport=polling' });
    assert.equal(old.status, 400, 'the v2 client is told at once');
  });

  test('the page and the health of the HTTP side', async () => {
    const page = await fetch(`${server.url}/`);
    assert.equal(page.status, 200);
    assert.match(await page.text(), /Signaling server running/);
    const response = await fetch(`${server.url}/api/health`);
    const health = await response.json();
    assert.ok(['healthy', 'degraded'].includes(health.status));
    assert.equal(typeof health.checks, 'object');
    assert.equal(typeof health.responseTime, 'number');
    assert.ok('timestamp' in health);
  });

  test('E1 a POST over maxPayload, by length and chunked', async () => {
    for (const chunked of [false, true]) {
      const { path, maxPayload } = await handshake(server, { connect: true });
      const over = maxPayload * 3;
      const headers = chunked ? PLAIN : { ...PLAIN, 'content-length': over };
      let written = 0;
      const answer = await request(server, {
        method: 'POST', path, headers,
        body: (req) => {
          const part = Buffer.alloc(65_536, '4');
          req.on('error', () => {});
          const pump = () => {
            while (written < over && !req.destroyed) {
              const size = Math.min(part.length, over - written);
              written += size;
              if (!req.write(part.subarray(0, size))) return req.once('drain', pump);
            }
            return req.end();
          };
          pump();
        },
      });
      // Cut while the client still writes is a refusal too: the status is then lost with the connection.
      assert.ok([413, 400, 0].includes(answer.status), `status ${answer.status}`);
      const next = await request(server, { path });
      // A closed session may say goodbye to one poll (Engine.IO close, `1`) before it is unknown.
      if (next.status === 200) assert.match(next.body, /1$/);
      assert.equal((await request(server, { path })).status, 400, 'the session is closed');
    }
  });

  test('E2 a message over the limit closes the WebSocket', async (t) => {
    const raw = await RawSocket.open(server);
    raw.send(`42["chat-message","${'x'.repeat(3_000_000)}"]`);
    const code = await raw.closing(SLACK_MS);
    assert.notEqual(code, undefined, 'closed');
    t.diagnostic(`close code ${code}`);
    const pieces = await RawSocket.open(server);
    const part = Buffer.alloc(60_000, 'x');
    pieces.write(pieces.frame(1, '42["chat-message","', { fin: false }));
    for (let i = 0; i < 60 && pieces.closed === undefined; i += 1) pieces.write(pieces.frame(0, part, { fin: false }));
    assert.notEqual(await pieces.closing(SLACK_MS), undefined, 'a message never ended is closed at the limit');
  });

  test('E2 fragments: of one byte, empty, and never in order', async () => {
    const bytes = await RawSocket.open(server);
    const text = '42987654["no-such-event",{}]';
    bytes.write(...[...text].map((c, i) => bytes.frame(i === 0 ? 1 : 0, c, { fin: i === text.length - 1 })));
    const answered = await bytes.text((m) => m.startsWith('43987654'));
    assert.ok(answered !== undefined || bytes.closed !== undefined, 'one-byte fragments are one message, or refused');
    bytes.end();
    const empty = await RawSocket.open(server);
    empty.write(empty.frame(1, '', { fin: false }), ...Array.from({ length: 10_000 }, () => empty.frame(0, '', { fin: false })), empty.frame(0, '3'));
    assert.ok(await answers(empty) || empty.closed !== undefined);
    empty.end();
    for (const frames of [['lonely continuation', 0, {}], ['reserved opcode', 3, {}], ['reserved bit', 1, { rsv: 4 }]]) {
      const [what, opcode, options] = frames;
      const raw = await RawSocket.open(server);
      raw.write(raw.frame(opcode, what === 'reserved bit' ? zlib.deflateRawSync(Buffer.alloc(1_000_000)).subarray(0, 1_000) : 'x', options));
      assert.notEqual(await raw.closing(SLACK_MS), undefined, `${what} is closed`);
    }
  });

  test('E2 a compressed bomb', async () => {
    const raw = await RawSocket.open(server, { perMessageDeflate: { threshold: 0 } });
    if (raw.ws.extensions === '') {
      // Nothing was negotiated, so there is nothing to inflate: plain messages work on.
      assert.ok(await answers(raw));
      raw.end();
      return;
    }
    raw.ws.send(Buffer.alloc(50_000_000, 'x').toString(), { compress: true });
    assert.notEqual(await raw.closing(SLACK_MS), undefined);
  });

  test('E3 attachments announced and not sent, or sent and not announced', async () => {
    const hole = (num) => `{"_placeholder":true,"num":${num}}`;
    const cases = {
      'a billion announced': ['451000000000-["x"]'],
      'a million announced': ['451000000-["x"]'],
      'eleven announced': [`4511-["x",${Array.from({ length: 11 }, (_, i) => hole(i))}]`],
      'more than 2^64 announced': ['4599999999999999999999999-["x"]'],
      'negative count': ['45-1-["x"]'],
      'binary with none announced': [Buffer.from('x')],
      'number out of range': [`451-["x",${hole(5)}]`, Buffer.from('x')],
      'number negative': [`451-["x",${hole(-1)}]`, Buffer.from('x')],
      'number twice': [`452-["x",${hole(0)},${hole(0)}]`, Buffer.from('x'), Buffer.from('y')],
      'text between attachments': [`452-["x",${hole(0)},${hole(1)}]`, Buffer.from('x'), '42["x"]'],
      'none announced in a binary event': ['450-["x"]'],
      'one announced and never sent': [`451-["x",${hole(0)}]`],
    };
    const before = server.rssKb();
    await Promise.all(Object.values(cases).map(async (messages) => {
      const raw = await RawSocket.open(server, { from: '127.0.0.31' });
      for (const message of messages) raw.send(message);
      // Closing is best; what stays open must not be a trap that swallows memory, so it is asked again below.
      await raw.closing(3_000);
      if (raw.closed === undefined) for (let i = 0; i < 20; i += 1) raw.send(Buffer.alloc(100_000));
      await raw.closing(1_000);
      raw.end();
    }));
    const polled = await handshake(server, { connect: true });
    await request(server, { method: 'POST', path: polled.path, headers: PLAIN, body: 'bAAAA' });
    assert.ok(server.rssKb() - before < GROWTH_KB_MAX, 'what is announced is not allocated');
  });

  test('E3 what violates the format closes the socket', async () => {
    for (const message of ['451000000-["x"]', Buffer.from('x')]) {
      const raw = await RawSocket.open(server, { from: '127.0.0.31' });
      raw.send(message);
      assert.notEqual(await raw.closing(SLACK_MS), undefined, `after ${String(message).slice(0, 30)}`);
    }
  });

  test('E4 nested JSON, reserved names and strange ack ids are closed or ignored', { timeout: 150_000 }, async () => {
    const cases = [
      `42["chat-message",${'['.repeat(100_000)}${']'.repeat(100_000)}]`,
      `42["chat-message",${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}]`,
      `42["chat-message",${'['.repeat(100_000)}`,
      `42["x",${'1'.repeat(900_000)}]`, '42["x",1e400]', '42["x",-1e999999]',
      '42["join-session",{"__proto__":{"ok":true},"constructor":{"prototype":1}}]', '42["__proto__",{}]',
      '42["connect"]', '42["connect_error"]', '42["disconnect"]', '42["disconnecting"]', '42["error",{}]', '42["newListener"]',
      '42[5]', '42[null,{}]', '42[{}]', '42{}', '42[]', '42null', '42', '42[', '42"x"', '42["x",{}]trailing',
      '4218446744073709551616["x",{}]', '4299999999999999999999999999["x",{}]', '42-1["x",{}]', '429223372036854775807["x",{}]',
      '43999[{"ok":1}]', '43["a"]', '43', '431[1]', '431[1]', '46999[{}]', '44{"message":"x"}',
      '49', '4', '9', 'x', '', '5', '6', '2probe', '3probe', '0{}', '42["x","\\ud800"]', '42["\\ud800",{}]', '42["a\\u0000b",{}]',
    ];
    await Promise.all(cases.map(async (text, i) => {
      const raw = await RawSocket.open(server, { from: `127.0.0.${40 + (i % 10)}` });
      raw.send(text);
      const alive = await answers(raw);
      assert.ok(alive || raw.closed !== undefined || raw.texts.some((m) => m.startsWith('41')),
        `neither closed nor answering after ${text.slice(0, 40)}`);
      raw.end();
    }));
    const bytes = await RawSocket.open(server);
    bytes.write(bytes.frame(1, Buffer.from([0x34, 0x32, 0xff, 0xfe, 0xc0])));
    assert.notEqual(await bytes.closing(SLACK_MS), undefined, 'text that is no UTF-8 closes (RFC 6455 §8.1)');
  });

  test('E5 a sid is not guessed', async () => {
    const hellos = await Promise.all(Array.from({ length: 50 }, () => handshake(server, { from: '127.0.0.51' })));
    const sids = hellos.map((h) => h.sid);
    assert.equal(new Set(sids).size, 50);
    // 96 random bits are 16 characters of base64. 120 would be better, but engineioxide lets nobody choose its session ids.
    for (const sid of sids) assert.match(sid, /^[A-Za-z0-9_-]{16,}$/);
    const wrong = ['AAAAAAAAAAAAAAAAAAAAAAAA', '0', '', '..%2F..', '%00', 'x'.repeat(5_000), `${sids[0].slice(0, -1)}%20`];
    for (const sid of wrong.filter((s) => s !== '')) {
      const path = `${PATH}&sid=${sid}`;
      const got = await request(server, { path });
      assert.ok([400, 414].includes(got.status), `GET ${sid.slice(0, 20)}: ${got.status}`);
      const posted = await request(server, { method: 'POST', path, body: '40', headers: PLAIN });
      assert.ok([400, 414].includes(posted.status), `POST ${sid.slice(0, 20)}: ${posted.status}`);
      assert.ok(!sids.some((known) => (got.body + posted.body).includes(known)), 'nothing is told');
      await assert.rejects(RawSocket.open(server, { connect: false, query: `&sid=${sid}` }), 'an upgrade of an unknown sid');
    }
  });

  test('E6 handshakes never followed by CONNECT are gone in time', { timeout: 150_000 }, async () => {
    const open = await Promise.allSettled(Array.from({ length: 300 }, (_, i) =>
      RawSocket.open(server, { connect: false, pong: i % 2 === 0, from: `127.0.0.${100 + (i % 30)}` })));
    const sockets = open.filter((o) => o.status === 'fulfilled').map((o) => o.value);
    const polls = await Promise.all(Array.from({ length: 300 }, (_, i) => handshake(server, { from: `127.0.0.${100 + (i % 30)}` })));
    await stillWell(server);
    const codes = await Promise.all(sockets.map((raw) => raw.closing(60_000)));
    assert.equal(codes.filter((code) => code === undefined).length, 0, 'silent sockets are closed');
    const end = Date.now() + 30_000;
    const last = await Promise.all(polls.filter((p) => p.path).map(async ({ path }) => {
      // A session that still lives answers a poll with a ping, or holds it.
      let status = 200;
      while (status === 200 && Date.now() < end) ({ status } = await request(server, { path }));
      return status;
    }));
    assert.deepEqual(last.filter((status) => status !== 400), [], 'silent polling sessions are forgotten');
  });

  test('E6 a hundred namespaces', async () => {
    const raw = await RawSocket.open(server);
    for (let i = 0; i < 100; i += 1) raw.send(`40/room-${i},{"token":"x"}`);
    const alive = await answers(raw);
    assert.ok(alive || raw.closed !== undefined);
    assert.ok(!raw.texts.some((t) => /^40\/room-/.test(t)), 'only the namespace "/" exists');
    raw.end();
  });

  test('E7 duplicate polls and posts', { timeout: 150_000 }, async () => {
    const poll = await handshake(server, { connect: true });
    const first = request(server, { path: poll.path });
    await sleep(1_000); // until it is held; a ping ends it after ten seconds
    const second = await request(server, { path: poll.path });
    assert.equal(second.status, 400, 'the second poll is refused');
    await first;
    assert.equal((await request(server, { path: poll.path })).status, 400, 'and the session is closed');

    const post = await handshake(server, { connect: true });
    let slow;
    const held = request(server, {
      method: 'POST', path: post.path, headers: { ...PLAIN, 'content-length': 4 }, body: (req) => { slow = req; req.write('42'); },
    });
    await sleep(1_000);
    const other = await request(server, { method: 'POST', path: post.path, headers: PLAIN, body: '42["x",{}]' });
    assert.ok([200, 400].includes(other.status), `second POST ${other.status}`);
    slow.end('[]');
    await held;
  });

  test('E7 odd methods and content types always end', { timeout: 150_000 }, async () => {
    for (const method of ['PUT', 'TRACE', 'OPTIONS', 'DELETE', 'PATCH', 'PROPFIND', 'HEAD']) {
      const bare = await request(server, { method });
      assert.ok(bare.status >= 200 && bare.status < 500 && (bare.status >= 400 || method === 'OPTIONS' || method === 'HEAD'), `${method}: ${bare.status}`);
      const { path } = await handshake(server, { connect: true });
      const answer = await request(server, { method, path });
      assert.ok(answer.status < 500, `${method} with a sid: ${answer.status}`);
    }
    for (const type of ['application/octet-stream', 'application/json', 'multipart/form-data', 'text/html', '', 'x'.repeat(2_000)]) {
      const { path } = await handshake(server, { connect: true });
      const answer = await request(server, { method: 'POST', path, headers: { 'content-type': type }, body: '42["no-such-event",{}]' });
      assert.ok(answer.status < 500 && answer.status !== 0, `${type.slice(0, 30)}: ${answer.status}`);
    }
    for (const body of ['', '\u001e', '\u001e\u001e\u001e', '42["x"]\u001e42["x"]\u001e', '\u001e'.repeat(50_000), 'b', 'b!!!', '0', '1\u001e42["x"]']) {
      const { path } = await handshake(server, { connect: true });
      const answer = await request(server, { method: 'POST', path, headers: PLAIN, body });
      assert.ok(answer.status < 500 && answer.status !== 0, `${JSON.stringify(body).slice(0, 30)}: ${answer.status}`);
    }
  });

  test('E7 polls aborted half-way', { timeout: 150_000 }, async () => {
    const before = server.rssKb();
    const sessions = await Promise.all(Array.from({ length: 20 }, () => handshake(server, { connect: true, from: '127.0.0.61' })));
    for (let round = 0; round < 50; round += 1) {
      await Promise.all(sessions.map(({ path }) => new Promise((done) => {
        const { socket, closed } = tcp(server, '127.0.0.61');
        socket.on('connect', () => socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`, () => setImmediate(() => socket.destroy())));
        closed.then(done);
      })));
    }
    for (const { path } of sessions) {
      const answer = await request(server, { path, timeoutMs: 20_000 });
      assert.ok([200, 400].includes(answer.status), `a poll after aborted ones: ${answer.status}`);
    }
    assert.ok(server.rssKb() - before < GROWTH_KB_MAX);
  });

  test('E8 slow headers, no headers and half a WebSocket handshake', { timeout: 150_000 }, async () => {
    const starts = [
      'GET / HTTP/1.1\r\nX-Slow: ', 'POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: 127.0.0.1\r\n', 'G',
      'GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Ver',
    ];
    const held = await Promise.all(Array.from({ length: 40 }, async (_, i) => {
      const { socket, closed } = tcp(server, '127.0.0.62');
      socket.write(starts[i % starts.length]);
      const drip = setInterval(() => socket.writable && socket.write('x'), 2_000);
      const giveUp = setTimeout(() => socket.destroy(), HEADERS_MS_MAX + SLACK_MS);
      const { ms } = await closed;
      clearInterval(drip);
      clearTimeout(giveUp);
      return ms;
    }));
    assert.ok(Math.max(...held) < HEADERS_MS_MAX + SLACK_MS, `one held for ${Math.max(...held)} ms`);
  });

  test('E8 a slow body', { timeout: 150_000 }, async () => {
    const { path } = await handshake(server, { connect: true, from: '127.0.0.63' });
    const { socket, closed } = tcp(server, '127.0.0.63');
    socket.write(`POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\n42["x","`);
    let answeredMs;
    socket.once('data', () => { answeredMs = Date.now(); });
    const start = Date.now();
    const drip = setInterval(() => socket.writable && socket.write('x'), 2_000);
    const giveUp = setTimeout(() => socket.destroy(), BODY_MS_MAX + SLACK_MS);
    const { ms } = await closed;
    clearInterval(drip);
    clearTimeout(giveUp);
    const took = answeredMs === undefined ? ms : answeredMs - start;
    assert.ok(took < BODY_MS_MAX + SLACK_MS, `held for ${took} ms`);
  });

  test('E8 a reader that never reads is given up, and its room goes on', { timeout: 150_000 }, async (t) => {
    const [a, b] = await people(t, server, 2, { from: '127.0.0.64' });
    const raw = await RawSocket.open(server, { from: '127.0.0.65' });
    const before = server.rssKb();
    raw.send(`42["join-session",${JSON.stringify({ sessionId: a.sessionId, userId: 'deaf', userName: 'deaf', isInstructor: false })}]`);
    await a.roster((r) => r.get('deaf')?.state === 'connected');
    raw.ws._socket.pause();
    const since = a.mark();
    let gone = false;
    const noticed = a.roster((r) => r.get('deaf')?.state !== 'connected', { since, within: 40_000 });
    noticed.finally(() => { gone = true; }).catch(() => {});
    const padding = 'x'.repeat(8_000);
    for (let n = 0; !gone; n += 1) {
      const start = Date.now();
      await Promise.all(Array.from({ length: 20 }, () => a.signal('ice-candidate', 'deaf', { candidate: padding })));
      await a.signal('ice-candidate', b.userId, { candidate: `n${n}` });
      assert.ok(Date.now() - start < HELD_UP_MS, 'the room is not held up');
      await sleep(500);
    }
    await noticed;
    assert.ok(server.rssKb() - before < GROWTH_KB_MAX);
    raw.end();
  });

  test('E9 headers, URLs and lengths beyond reason', async () => {
    const many = Array.from({ length: 300 }, (_, i) => `X-H-${i}: v`).join('\r\n');
    const cases = {
      '300 headers': `GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n${many}\r\nConnection: close\r\n\r\n`,
      '1 MB of header': `GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Big: ${'x'.repeat(1_000_000)}\r\nConnection: close\r\n\r\n`,
      '100 KB URL': `GET /${'x'.repeat(100_000)} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n`,
      'length and chunked': 'POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n',
      'two lengths': 'POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde',
      'no HTTP': '\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\r\n\r\n',
    };
    await Promise.all(Object.entries(cases).map(async ([what, bytes]) => {
      const { socket, closed } = tcp(server, '127.0.0.66');
      socket.write(bytes);
      const giveUp = setTimeout(() => socket.destroy(), 15_000);
      const { told } = await closed;
      clearTimeout(giveUp);
      const statuses = [...told.matchAll(/HTTP\/1\.[01] (\d{3})/g)].map((m) => Number(m[1]));
      const cut = statuses.length === 0;
      assert.ok(cut || (statuses.length === 1 && statuses[0] >= 400 && statuses[0] < 500), `${what}: ${statuses}`);
    }));
  });

  test('E10 other origins are refused, for polling and WebSocket', async () => {
    for (const origin of ['https://evil.example', 'null', 'http://localhost.evil.example', `http://127.0.0.1.evil.example:${server.port}`]) {
      const polled = await request(server, { headers: { origin } });
      assert.ok(polled.status >= 400 && polled.status < 500, `${origin}: ${polled.status}`);
      assert.notEqual(polled.headers['access-control-allow-origin'], '*');
      assert.notEqual(polled.headers['access-control-allow-origin'], origin);
      await assert.rejects(RawSocket.open(server, { connect: false, origin }), `${origin} over WebSocket`);
    }
    for (const origin of [server.url, 'http://localhost:5173', 'http://localhost']) {
      const polled = await request(server, { headers: { origin } });
      assert.equal(polled.status, 200, origin);
      const raw = await RawSocket.open(server, { origin });
      raw.end();
    }
  });

  test('open mode serves no forwarded request and no foreign host name', async () => {
    const forwarded = [{ 'x-forwarded-for': '203.0.113.9' }, { forwarded: 'for=203.0.113.9' }, { host: 'evil.example' }];
    for (const headers of forwarded) {
      const polled = await request(server, { headers });
      assert.ok(polled.status >= 400 && polled.status < 500, `${JSON.stringify(headers)}: ${polled.status}`);
      await assert.rejects(RawSocket.open(server, { connect: false, headers }), JSON.stringify(headers));
    }
    assert.equal((await request(server, { headers: { host: `localhost:${server.port}` } })).status, 200);
  });
});

test('after all of it the server holds what it held before', async () => {
  await stillWell(server);
  assert.ok(server.rssKb() - rssKbBefore < 2 * GROWTH_KB_MAX, `from ${rssKbBefore} to ${server.rssKb()} kB`);
  assert.equal(server.exited, undefined);
  assert.ok(!/panicked at/.test(server.log), 'no panic was logged');
});
