// What a join says of TURN servers outside, and whether they would believe it.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Client, SOON_MS, unique } from './lib/client.mjs';
import { startServer } from './lib/server.mjs';

const URLS = ['turn:turn.school.example:3478?transport=udp', 'turns:turn.school.example:5349?transport=tcp'];
const SECRET = 'a secret that two servers share';
const LIFETIME_S = 12 * 60 * 60;
const COTURN = '/usr/bin/turnserver';

async function withServer(t, settings) {
  const server = await startServer(settings);
  t.after(() => server.stop());
  return server;
}

async function listening(port) {
  for (const start = Date.now(); Date.now() - start < SOON_MS; await sleep(50)) {
    const socket = connect(port, '127.0.0.1');
    const open = await new Promise((done) => socket.once('connect', () => done(true)).once('error', () => done(false)));
    socket.destroy();
    if (open) return;
  }
  throw new Error(`nobody listens on ${port}`);
}

async function joined(t, server, more) {
  const client = await Client.join(server, {}, { sessionId: 'ice', userId: unique('user'), ...more });
  t.after(() => client.close());
  return client;
}

describe('iceServers', { concurrency: true, timeout: 150_000 }, () => {
  test('fixed credentials are the same for everybody', async (t) => {
    const server = await withServer(t, { TURN_URIS: URLS.join(), TURN_USERNAME: 'u', TURN_CREDENTIAL: 'c' });
    for (const media of ['sfu', 'mesh']) {
      const { seat } = await joined(t, server, { media });
      assert.deepEqual(seat.iceServers, [{ urls: URLS, username: 'u', credential: 'c' }]);
    }
  });

  test('a shared secret makes credentials of each seat', async (t) => {
    // From a file, as a secret that is mounted into a container.
    const directory = mkdtempSync(join(tmpdir(), 'lyceum-secret-'));
    t.after(() => rmSync(directory, { recursive: true }));
    const file = join(directory, 'turn');
    writeFileSync(file, `${SECRET}\n`);
    const server = await withServer(t, { TURN_URIS: URLS.join(), TURN_SECRET_FILE: file });
    const first = await joined(t, server);
    const check = ({ iceServers, participantId }) => {
      assert.equal(iceServers.length, 1);
      const [{ urls, username, credential, ...rest }] = iceServers;
      assert.deepEqual([urls, rest], [URLS, {}]);
      const [expiry, holder, ...more] = username.split(':');
      assert.deepEqual([holder, more], [participantId, []]);
      assert.ok(Math.abs(expiry - Date.now() / 1_000 - LIFETIME_S) < 60, `${expiry} is twelve hours from now`);
      assert.equal(credential, createHmac('sha1', SECRET).update(username).digest('base64'));
      return holder;
    };
    const holder = check(first.seat);
    assert.notEqual(check((await joined(t, server)).seat), holder);
    first.drop();
    const { resumeToken } = first.seat;
    const again = await joined(t, server, { userId: first.userId, resumeToken });
    assert.equal(again.seat.resumed, true);
    assert.equal(check(again.seat), holder, 'a resumed seat is the same holder');
  });

  test('coturn takes them', { skip: !existsSync(COTURN) && 'coturn is not installed' }, async (t) => {
    const port = 31_000 + Math.floor(Math.random() * 1_000);
    const coturn = spawn(COTURN, [
      '-n', '--use-auth-secret', `--static-auth-secret=${SECRET}`, '--realm=school', `--listening-port=${port}`, '--listening-ip=127.0.0.1',
      '--relay-ip=127.0.0.1', '--allow-loopback-peers', '--cli-password=unused', '--no-cli', '--no-tls', '--no-dtls', '--log-file=/dev/null', '--pidfile=',
    ], { stdio: 'ignore' });
    t.after(() => coturn.kill());
    await listening(port);
    const server = await withServer(t, { TURN_URIS: `turn:127.0.0.1:${port}`, TURN_SECRET: SECRET });
    const { seat: { iceServers: [{ username, credential }] } } = await joined(t, server);
    const call = (password) => promisify(execFile)('turnutils_uclient', ['-y', '-c', '-n1', '-m1', '-u', username, '-w', password, '-p', `${port}`, '127.0.0.1'], { timeout: SOON_MS });
    const { stdout } = await call(credential);
    assert.match(stdout, /Total lost packets 0/);
    await assert.rejects(call(`${credential}x`));
  });
});
