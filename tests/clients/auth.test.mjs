// Tokens with an unmodified socket.io-client: who gets in over both transports, and with which error others do not.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { accepted, Client, refused, TRANSPORTS, unique } from './lib/client.mjs';
import { startServer } from './lib/server.mjs';

const SECRET = 'the secret of the foreign clients, 32 bytes';
const OTHER = 'another secret, which the server does not know';
const PAIR = ['app', 'the pair of the foreign clients of 32 bytes'];

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
/** What any JWT library makes of it. */
function sign(claims, secret = SECRET, header = { alg: 'HS256', typ: 'JWT' }) {
  const message = `${part(header)}.${part(claims)}`;
  return `${message}.${createHmac('sha256', secret).update(message).digest('base64url')}`;
}
const soon = (seconds) => Math.floor(Date.now() / 1000) + seconds;
const joinToken = (sessionId, sub, more = {}, secret = SECRET) =>
  sign({ aud: 'lyceum', iss: 'school', sub, sessionId, exp: soon(600), ...more }, secret);

let server;
before(async () => {
  server = await startServer({ JWT_SECRET: SECRET, LYCEUM__MEDIA__ADDRESSES: '127.0.0.1', LYCEUM__AUTH__KEYS: PAIR.join(':'), LYCEUM__AUTH__ANY_USER_MAY_JOIN: 'true' });
});
after(() => server?.stop());

/** The message of the `connect_error`, or undefined if there was none. */
async function connectError(options) {
  const client = new Client(server, options);
  try {
    await client.connected();
    return undefined;
  } catch (error) {
    return error.message;
  } finally {
    client.close();
  }
}

async function askForToken(authorization, body) {
  const response = await fetch(`${server.url}/v1/video/token`, {
    method: 'POST',
    headers: { authorization, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

for (const transport of TRANSPORTS) {
  describe(`tokens over ${transport}`, { concurrency: true }, () => {
    test('refusals are connect errors with a code', async () => {
      const sessionId = unique('session');
      for (const [auth, code] of [
        [undefined, 'auth/missing'],
        [{}, 'auth/missing'],
        [{ token: '' }, 'auth/invalid'],
        [{ token: joinToken(sessionId, 'ada', {}, OTHER) }, 'auth/invalid'],
        [{ token: sign({ aud: 'lyceum', sub: 'ada', sessionId, exp: soon(600) }, '', { alg: 'none' }) }, 'auth/invalid'],
        [{ token: joinToken(sessionId, 'ada', { aud: 'authenticated' }) }, 'auth/invalid'],
        [{ token: joinToken(sessionId, 'ada', { exp: soon(-100_000) }) }, 'auth/expired'],
      ]) {
        assert.equal(await connectError({ transport, auth }), code, JSON.stringify(auth));
      }
    });

    test('a token says who, where and as what', async (t) => {
      const sessionId = unique('session');
      const token = joinToken(sessionId, 'grace', { name: 'Grace', role: 'instructor' });
      const grace = await Client.join(server, { transport, auth: { token } }, { sessionId, userId: 'somebody else', userName: 'x' });
      t.after(() => grace.close());
      assert.equal(grace.seat.userId, 'grace');
      assert.equal(grace.seat.role, 'instructor');
      assert.equal(grace.seat.permissions.moderate, true);
      const ada = await Client.join(server, { transport, auth: { token: joinToken(sessionId, 'ada') } }, { sessionId, userId: 'ada', isInstructor: true });
      t.after(() => ada.close());
      assert.equal(ada.seat.role, 'participant');
      refused(await ada.emit('moderate', { action: 'mute-all' }), 'session/forbidden');
      const elsewhere = await Client.connect(server, { transport, auth: { token: joinToken(sessionId, 'eve') } });
      t.after(() => elsewhere.close());
      refused(await elsewhere.emit('join-session', { sessionId: unique('session'), userId: 'eve' }), 'session/forbidden');
    });

    test('the token function of a client is asked at each connection', async (t) => {
      const sessionId = unique('session');
      let asked = 0;
      const auth = (give) => {
        asked += 1;
        give({ token: joinToken(sessionId, 'ada') });
      };
      const ada = await Client.join(server, { transport, auth, reconnection: true, reconnectionDelay: 50 }, { sessionId, userId: 'ada' });
      t.after(() => ada.close());
      const again = new Promise((done) => ada.socket.once('connect', done));
      ada.drop();
      await again;
      const ack = accepted(await ada.emit('join-session', { sessionId, userId: 'ada', resumeToken: ada.seat.resumeToken }));
      assert.equal(ack.resumed, true);
      assert.equal(asked, 2);
    });

    test('a user exchanges a token of the application for one that opens a session', async (t) => {
      const sessionId = unique('session');
      const user = sign({ sub: 'ada', aud: 'authenticated', role: 'authenticated', exp: soon(600) });
      const { status, body } = await askForToken(`Bearer ${user}`, { sessionId, userName: 'Ada', role: 'instructor' });
      assert.equal(status, 200, JSON.stringify(body));
      assert.equal(body.role, 'participant');
      assert.equal(body.url, server.url);
      const ada = await Client.join(server, { transport, auth: { token: body.token } }, { sessionId, userId: 'ada' });
      t.after(() => ada.close());
      assert.equal(ada.seat.userId, 'ada');
      const pair = Buffer.from(PAIR.join(':')).toString('base64');
      const given = await askForToken(`Basic ${pair}`, { sessionId, userId: 'grace', role: 'instructor' });
      assert.equal(given.status, 200, JSON.stringify(given.body));
      assert.equal(given.body.role, 'instructor');
      assert.equal((await askForToken(`Bearer ${body.token}`, { sessionId })).body.code, 'auth/invalid');
    });
  });
}
