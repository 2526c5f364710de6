// An application of somebody else's, web/examples/next: its route handler gets tokens with a key pair, its page holds the call.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { createServer } from 'node:net';
import { after, before, test } from 'node:test';
import { press, smallCamera, untilMoving } from './product.mjs';
import { BROWSERS, SOON_MS, openRig, until } from './rig.mjs';

const PAIR = ['school', randomUUID() + randomUUID()];
let rig;
let app;
before(async () => {
  assert.ok(process.env.NEXT_APP, 'next.sh has built the application');
  rig = await openRig('next', { LYCEUM__AUTH__KEYS: PAIR.join(':') });
  await startApp();
}, { timeout: 300_000 });
after(async () => {
  await app?.stop();
  await rig?.close();
}, { timeout: 120_000 });

async function startApp() {
  const holder = createServer();
  await new Promise((done) => holder.listen(0, '127.0.0.1', done));
  const { port } = holder.address();
  await new Promise((done) => holder.close(done));
  const child = spawn(process.execPath, ['node_modules/next/dist/bin/next', 'start', '--hostname', '127.0.0.1', '--port', String(port)], {
    cwd: process.env.NEXT_APP,
    env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1', LYCEUM_URL: rig.lyceum.url, LYCEUM_KEY_ID: PAIR[0], LYCEUM_KEY_SECRET: PAIR[1] },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const log = createWriteStream(new URL('next.app.log', import.meta.url));
  child.stdout.pipe(log);
  child.stderr.pipe(log);
  const ended = new Promise((done) => child.once('exit', done));
  const url = `http://localhost:${port}`;
  app = {
    url,
    async stop() {
      child.kill();
      await ended;
    },
  };
  await until(async () => child.exitCode !== null || (await fetch(url)).ok, SOON_MS, 'the application answers');
  assert.equal(child.exitCode, null, 'the application runs, see next.app.log');
}

const ask = (body, headers = {}) => fetch(`${app.url}/api/token`, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body });
const claimsIn = (text) => JSON.parse(Buffer.from(JSON.parse(text).token.split('.')[1], 'base64url'));

test('its route handler gives tokens for one session, and nothing of its key pair', async () => {
  const answer = await ask(JSON.stringify({ sessionId: 'algebra', userName: 'Ada' }));
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  assert.ok(!text.includes(PAIR[1]));
  const claims = claimsIn(text);
  assert.deepEqual([claims.aud, claims.sessionId, claims.name], ['lyceum', 'algebra', 'Ada']);
  assert.equal(claims.role ?? 'participant', 'participant');
  const [, cookie] = new RegExp(`(visitor=${claims.sub}\\.[\\w-]+);.*HttpOnly`).exec(answer.headers.get('set-cookie'));
  const visit = async (headers) => claimsIn(await (await ask(JSON.stringify({ sessionId: 'algebra', userName: 'Ada' }), headers)).text()).sub;
  assert.equal(await visit({ cookie }), claims.sub, 'a browser stays who it is');
  assert.notEqual(await visit({ cookie: `visitor=${claims.sub}` }), claims.sub, 'and nobody is it by its name alone');
  for (const body of ['', '[]', '{"sessionId":1,"userName":"x"}']) assert.equal((await ask(body)).status, 400, body);
});

const tile = (name) => `.tile[aria-label="${name}"]`;

/** Opens the application's page and goes in by its form. */
async function enter(t, browserName, name) {
  const page = await rig.open(t, browserName, 'about:blank');
  page.as = { name };
  await page.evaluateOnNewDocument(smallCamera);
  page.faults = [];
  page.on('pageerror', (error) => {
    if (page.url().startsWith(app.url)) page.faults.push(String(error)); // not of the empty page before, which has no camera
  });
  await page.goto(`${app.url}/?session=algebra`, { waitUntil: 'load' });
  await until(() => page.$('.lyceum-prejoin video'), SOON_MS, `${name} sees the preview`);
  await page.type('.lyceum-prejoin [name="name"]', name);
  await press(page, 'join');
  await until(() => page.$(tile(name)), SOON_MS, `${name} is in the call`);
  return page;
}

const heard = (page, name) => page.evaluate(async (selector) => {
  const counters = await window.probe.counters();
  return counters[document.querySelector(selector)?.dataset.participant]?.energy > 0;
}, tile(name));

test('a call through its page: pictures, sound, chat, the buttons', { timeout: 300_000 }, async (t) => {
  const [ada, bob] = await Promise.all([enter(t, 'chromium', 'Ada'), enter(t, BROWSERS.at(-1), 'Bob')]);
  await Promise.all([untilMoving(ada, 'Bob', SOON_MS, tile('Bob')), untilMoving(bob, 'Ada', SOON_MS, tile('Ada'))]);
  await until(async () => (await heard(ada, 'Bob')) && (await heard(bob, 'Ada')), SOON_MS, 'they hear one another');

  await ada.type('.chat [name="message"]', 'What is a ring?');
  await ada.$eval('.chat button', (button) => button.click());
  await until(() => bob.$eval('.chat ol', (list) => list.textContent.includes('Ada What is a ring?')), SOON_MS, 'Bob reads it');
  await until(() => ada.$eval('.chat [name="message"]', (field) => field.value === ''), SOON_MS, 'the field is empty again');

  await press(bob, 'camera');
  await until(() => ada.$eval(tile('Bob'), (one) => one.querySelector('video') === null), SOON_MS, "Bob's picture is gone");
  await press(bob, 'camera');
  await untilMoving(ada, 'Bob', SOON_MS, tile('Bob'));

  await press(bob, 'leave');
  await until(() => bob.$('.lyceum-prejoin'), SOON_MS, 'Bob is back at the door');
  await until(async () => !(await ada.$(tile('Bob'))), SOON_MS, 'Ada is alone');
  assert.deepEqual([ada.faults, bob.faults], [[], []]);
});
