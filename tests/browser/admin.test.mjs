// The operators' pages against a server with a running call, and the network test from both browsers.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { BROWSERS, SOON_MS, openRig, until } from './rig.mjs';
import { PEOPLE } from './expect.mjs';
import { DESKTOP, LYING, PHONE, clean, press } from './product.mjs';
import { openTrust } from './trust.mjs';

/** In `hosts`: Firefox speaks TLS only to a TURN server that has a name. */
const NAME = 'lyceum.test';
const ADMIN_KEY = `admin-${randomUUID()}`;
const PAIR = ['school', randomUUID()];
const WEBHOOK_SECRET = `whsec_${Buffer.from(randomUUID()).toString('base64')}`;
const SESSION = 'algebra 2';

let trust;
let rig;
before(async () => {
  trust = openTrust(NAME);
  rig = await openRig('admin', {
    ...trust.settings,
    LYCEUM_ADMIN_KEY: ADMIN_KEY,
    LYCEUM__AUTH__KEYS: PAIR.join(':'),
    // Nobody listens there: what is told waits.
    LYCEUM__WEBHOOKS__URL: 'http://127.0.0.1:9/hook',
    LYCEUM__WEBHOOKS__SECRET: WEBHOOK_SECRET,
    LYCEUM__WEBHOOKS__ALLOW: '127.0.0.1/32',
  }, { trust });
}, { timeout: 300_000 });
after(async () => { await rig?.close(); trust?.close(); }, { timeout: 120_000 });

const scenario = (name, body) => test(name, { timeout: 300_000 }, body);

/** What the page's policy kept from happening. */
function noteViolations() {
  window.violations = [];
  document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => window.violations.push(`${violatedDirective} ${blockedURI}`));
}

async function openAdmin(t, browser, viewport = DESKTOP) {
  const page = await rig.open(t, browser, `${rig.lyceum.url}/admin`, { viewport, before: noteViolations });
  page.as = { name: 'the operator' };
  await until(() => page.$('input[name="key"]'), SOON_MS, 'it asks for the key');
  return page;
}

async function signIn(page, key = ADMIN_KEY) {
  await page.$eval('input[name="key"]', (input) => { input.value = ''; });
  await page.type('input[name="key"]', key);
  await page.keyboard.press('Enter');
}

const text = (page) => page.$eval('main', (main) => main.innerText);
const reads = (page, pattern) => until(async () => pattern.test(await text(page)), SOON_MS, async () => `the page reads ${pattern}`);
/** Goes to a page by its link, and waits for its heading. */
async function go(page, hash, heading) {
  await page.$eval(`nav a[href="#/${hash}"]`, (link) => link.click());
  await until(() => page.$eval('h1', (h1, wanted) => h1.innerText === wanted, heading), SOON_MS, `the page ${heading}`);
}

const accessible = (page, what) => clean(page, what, [PHONE, LYING, DESKTOP]);

/** Somebody in the call, with a join token of the application's. */
async function join(t, as) {
  const response = await fetch(`${rig.lyceum.url}/v1/video/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(PAIR.join(':'))}` },
    body: JSON.stringify({ sessionId: SESSION, userId: as.user, userName: as.user }),
  });
  assert.equal(response.status, 200);
  return rig.plain(t, 'chromium', SESSION, { ...as, token: (await response.json()).token });
}

scenario('pages come compressed, and only they', async () => {
  const ask = async (path, accepted) => {
    const response = await fetch(rig.lyceum.url + path, { headers: { 'accept-encoding': accepted } });
    return { body: await response.text(), headers: response.headers };
  };
  for (const page of ['/', '/admin']) {
    const { body, headers } = await ask(page, 'gzip, br');
    assert.equal(headers.get('content-encoding'), 'br');
    assert.match(headers.get('content-security-policy'), /^default-src 'none'; script-src 'self';/);
    const script = body.match(/src="([^"]+\.js)"/)[1].replace(/^\.?\/?/, '/');
    const compressed = await ask(script, 'gzip');
    assert.equal(compressed.headers.get('content-encoding'), 'gzip');
    assert.match(compressed.headers.get('cache-control'), /immutable/);
    assert.equal((await ask(script, 'identity')).body, compressed.body);
  }
});

scenario('an operator watches a call, moderates it and ends it', async (t) => {
  const [[ada, bob], page] = await Promise.all([Promise.all([join(t, PEOPLE[0]), join(t, PEOPLE[1])]), openAdmin(t, 'chromium')]);
  await signIn(page, 'x'.repeat(40));
  await reads(page, /malformed|not|token|key/i);
  await until(() => page.$('.fault'), SOON_MS, 'a wrong key is refused in words');
  await accessible(page, 'signing in');
  await signIn(page);
  await until(() => page.$('nav'), SOON_MS, 'the right key is taken');
  await reads(page, /Participants\s+2/);
  await until(() => page.$eval('.chart polyline', (line) => line.points.length > 1), SOON_MS, 'a chart is drawn');
  await accessible(page, 'the overview');

  await go(page, 'rooms', 'Rooms');
  await until(() => page.$('td a'), SOON_MS, 'the room is listed');
  await accessible(page, 'the rooms');
  await page.$eval('td a', (link) => link.click());
  const row = async (user) => `tr[data-participant="${await (user === 'bob' ? bob : ada).evaluate(() => window.participantId)}"]`;
  for (const user of ['ada', 'bob']) {
    const selector = await row(user);
    await until(() => page.$eval(selector, (tr) => /udp/.test(tr.innerText) && /kbit\/s/.test(tr.innerText)), SOON_MS, `${user} sends over UDP`);
  }
  await page.$eval(`${await row('bob')} .disclosure`, (button) => button.click());
  await reads(page, /camera[\s\S]*(VP8|VP9|H264|AV1)[\s\S]*opus[\s\S]*Gets[\s\S]*ada/i).catch(() => reads(page, /opus[\s\S]*camera[\s\S]*Gets[\s\S]*ada/i));
  await accessible(page, 'a room');

  const confirmed = async (selector, action) => {
    await page.$eval(`${selector} [data-action="${action}"]`, (button) => button.click());
    await until(() => page.$('dialog[open]'), SOON_MS, 'it asks first');
    if (action === 'mute') await accessible(page, 'the question');
    await press(page, 'yes');
    await until(async () => !(await page.$('dialog')), SOON_MS, 'it is done');
  };
  await confirmed(await row('bob'), 'mute');
  await until(() => bob.evaluate(() => window.moderated?.some(({ action }) => action === 'mute')), SOON_MS, 'bob is told that he is muted');
  await confirmed(await row('bob'), 'remove');
  await until(async () => !(await page.$(await row('bob'))), SOON_MS, 'bob is gone');
  await confirmed('.head', 'end');
  await reads(page, /This call is over/);

  await t.test('what is kept of it', async () => {
    await go(page, 'meetings', 'Meetings');
    await until(() => page.$('td a'), SOON_MS, 'the meeting is listed');
    await page.$eval('td a', (link) => link.click());
    await until(() => page.$('.timeline rect'), SOON_MS, 'the timeline');
    await reads(page, /ada/);
    await reads(page, /bob/);
    await accessible(page, 'attendance');
    await page.evaluate(() => {
      const { createObjectURL } = URL;
      URL.createObjectURL = (blob) => {
        blob.text().then((text) => { window.saved = text; });
        return createObjectURL(blob);
      };
    });
    await press(page, 'csv');
    await until(() => page.evaluate(() => ['ada', 'bob'].every((user) => window.saved?.includes(user))), SOON_MS, 'the table is saved');
  });
  await t.test('webhooks, TURN, errors and settings, without secrets', async () => {
    await go(page, 'webhooks', 'Webhooks');
    await reads(page, /session\.started[\s\S]*pending/);
    await press(page, 'replay');
    await press(page, 'yes');
    await reads(page, /events are on their way/);
    await accessible(page, 'webhooks');
    await endpoints(t, page);
    await go(page, 'turn', 'TURN');
    await reads(page, /By UDP/);
    await accessible(page, 'TURN');
    await go(page, 'errors', 'Errors');
    await accessible(page, 'the errors');
    await go(page, 'configuration', 'Configuration');
    await reads(page, /admin_key\s+set, hidden/);
    await accessible(page, 'the configuration');
    const all = await page.evaluate(() => document.documentElement.outerHTML);
    for (const secret of [ADMIN_KEY, PAIR[1], WEBHOOK_SECRET]) assert.ok(!all.includes(secret), 'a secret is shown');
  });
  assert.deepEqual(await page.evaluate(() => window.violations), []);
});

/** An endpoint of the application's is added, tried out, given a new secret and deleted. */
async function endpoints(t, page) {
  const told = [];
  const receiver = createServer((request, response) => {
    let body = '';
    request.on('data', (part) => { body += part; });
    request.on('end', () => { told.push({ type: JSON.parse(body).type, signature: request.headers['webhook-signature'] }); response.end(); });
  });
  await new Promise((done) => receiver.listen(0, '127.0.0.1', done));
  t.after(() => receiver.close());
  const url = `http://127.0.0.1:${receiver.address().port}/hooks`;
  const row = `[aria-label="Delete ${url}"]`;
  const buttonOf = (label) => page.$eval(`[aria-label="${label}"]`, (button) => button.click());
  const secret = async () => (await until(() => page.$eval('.secret', (code) => code.textContent).catch(() => ''), SOON_MS, 'a secret'));

  await page.type('input[name="url"]', 'http://10.0.0.1/x');
  await press(page, 'add');
  await reads(page, /not public/);
  await page.$eval('input[name="url"]', (input) => { input.value = ''; });
  await page.type('input[name="url"]', url);
  await page.type('input[name="events"]', 'session.ended');
  await press(page, 'add');
  const first = await secret();
  assert.match(first, /^whsec_/);
  await until(() => page.$(row), SOON_MS, 'the endpoint is listed');
  await accessible(page, 'a new endpoint');
  await press(page, 'hide-secret');
  await buttonOf(`Send a test event to ${url}`);
  await reads(page, /took the test event and answered 200/);
  assert.deepEqual(told.map(({ type }) => type), ['webhook.test']);
  await buttonOf(`New secret for ${url}`);
  await press(page, 'yes');
  assert.notEqual(await secret(), first);
  await buttonOf(`Send a test event to ${url}`);
  await until(() => told.length === 2, SOON_MS, 'the second test');
  assert.equal(told[1].signature.split(' ').length, 2, 'the former secret signs too');
  await press(page, 'hide-secret');
  await page.$eval(row, (button) => button.click());
  await press(page, 'yes');
  await until(async () => !(await page.$(row)), SOON_MS, 'it is gone');
}

for (const browser of BROWSERS) {
  scenario(`${browser}: each way to the server is proven`, async (t) => {
    const page = await openAdmin(t, browser);
    await signIn(page);
    await until(() => page.$('nav'), SOON_MS, 'signed in');
    await go(page, 'network', 'Network test');
    await press(page, 'test');
    const states = () => page.$$eval('[data-way]', (all) => Object.fromEntries(all.map(({ dataset }) => [dataset.way, dataset.state])));
    let seen;
    // The page gives each way 20 s, which a browser on a busy machine may sleep away: then it is asked again.
    await until(async () => {
      seen = Object.values(await states());
      if (seen.includes('running')) return false;
      if (seen.every((state) => state === 'works')) return true;
      await press(page, 'test');
      return false;
    }, 2 * SOON_MS, () => `every way works: ${JSON.stringify(seen)}`);
    assert.deepEqual(await states(), { udp: 'works', tcp: 'works', 'turn-udp': 'works', 'turn-tcp': 'works', 'turn-tls': 'works' }, await text(page));
    await reads(page, /All is well/);
    if (browser === 'chromium') await accessible(page, 'the network test');
    assert.deepEqual(await page.evaluate(() => window.violations), []);
  });
}
