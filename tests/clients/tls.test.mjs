// Pages and Socket.IO over TLS, with a certificate that the test makes.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { get } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Client, TRANSPORTS, unique } from './lib/client.mjs';
import { startServer } from './lib/server.mjs';

let folder;
let server;
let ca;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'lyceum-tls-'));
  const [certificate, key] = [join(folder, 'fullchain.pem'), join(folder, 'privkey.pem')];
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-keyout', key, '-out', certificate,
    '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
  ], { stdio: 'ignore' });
  ca = readFileSync(certificate);
  const secure = (base) => ({
    LYCEUM__TLS__CERTIFICATE: certificate,
    LYCEUM__TLS__KEY: key,
    LYCEUM__TLS__LISTEN: `127.0.0.1:${base}`,
  });
  server = await startServer(secure);
});
after(async () => {
  await server?.stop();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

test('the page comes over TLS, to those who trust the certificate', async () => {
  const page = (options) => new Promise((done, fail) => {
    get(`${server.secureUrl}/`, { agent: false, ...options }, (answer) => {
      answer.resume();
      answer.once('end', () => done(answer.statusCode));
    }).once('error', fail);
  });
  assert.equal(await page({ ca }), 200);
  assert.equal(await page({ ca, maxVersion: 'TLSv1.2' }), 200);
  await assert.rejects(page({}), /self-signed/);
});

for (const transport of TRANSPORTS) {
  test(`people meet over TLS, by ${transport}`, async (t) => {
    const sessionId = unique('tls');
    const [a, b] = await Promise.all([1, 2].map(async (i) => {
      const client = await Client.connect({ url: server.secureUrl }, { transport, ca });
      t.after(() => client.socket.disconnect());
      await client.joinSession({ sessionId, userId: `u${i}` });
      return client;
    }));
    await a.roster((r) => r.has('u1') && r.has('u2'));
    assert.equal((await b.chat('hello')).ok, true);
    assert.equal((await a.seen('chat-message')).message, 'hello');
  });
}
