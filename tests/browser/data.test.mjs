// Data channels of plain RTCPeerConnections through the SFU, between the two browsers, beside media and alone.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BROWSERS, SOON_MS, openRig, until } from './rig.mjs';
import { PEOPLE, expectCall } from './expect.mjs';

let rig;
before(async () => { rig = await openRig('data'); }, { timeout: 300_000 });
after(() => rig?.close(), { timeout: 120_000 });

const firefox = BROWSERS.at(-1);
const scenario = (name, run) => test(name, { timeout: 300_000 }, run);

/** Opens both channels on the page's connection, and keeps what comes in `window.came`. */
async function openChannels() {
  window.came = [];
  window.channels = {
    data: pc.createDataChannel('data'),
    'data-lossy': pc.createDataChannel('data-lossy', { ordered: false, maxRetransmits: 0 }),
  };
  await Promise.all(Object.values(window.channels).map((channel) => new Promise((opened, failed) => {
    channel.binaryType = 'arraybuffer';
    channel.onopen = opened;
    channel.onerror = failed;
    channel.onmessage = ({ data }) => {
      const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : new Uint8Array(data);
      const end = bytes.indexOf(10);
      const decode = (part) => new TextDecoder().decode(part);
      const body = bytes.slice(end + 1);
      window.came.push({
        label: channel.label,
        text: typeof data === 'string',
        from: decode(bytes.slice(0, end)),
        length: body.length,
        sum: body.reduce((sum, byte, at) => (sum * 31 + byte + at) >>> 0, 0),
        body: body.length < 100 ? decode(body) : undefined,
      });
    };
  })));
}

/** Sends a message; a number stands for so many bytes of binary. */
function send(label, to, what) {
  const first = `${to.join(' ')}\n`;
  if (typeof what === 'string') return window.channels[label].send(first + what);
  const body = Uint8Array.from({ length: what }, (_, at) => at * 7);
  return window.channels[label].send(new Uint8Array([...new TextEncoder().encode(first), ...body]));
}

/** The messages of a channel that have come, of which the next call gives no more. */
const take = (page, channel) => page.evaluate((label) => {
  const [taken, left] = [true, false].map((is) => window.came.filter((one) => (one.label === label) === is));
  window.came = left;
  return taken;
}, channel);
const sum = (length) => Array.from({ length }, (_, at) => (at * 7) & 255).reduce((s, byte, at) => (s * 31 + byte + at) >>> 0, 0);

/** Awaits the next message of the channel that is expected; `again` sends what may have been lost once more. */
async function untilMessage(page, channel, again = () => {}) {
  const [came] = await until(async () => {
    const all = await take(page, channel);
    if (!all.length) await again();
    return all.length && all;
  }, SOON_MS, `a message of ${channel} comes to ${page.browserName}`);
  return came;
}

async function expectMessage(page, expected, again) {
  const { sum: _, ...came } = await untilMessage(page, expected.label, again);
  assert.deepEqual(came, expected);
}

async function expectBothWays(pages) {
  const ids = await Promise.all(pages.map((page) => page.evaluate(() => window.participantId)));
  for (const [at, from] of pages.entries()) {
    const to = pages[1 - at];
    await from.evaluate(send, 'data', [], 'grüße\nto all');
    await expectMessage(to, { label: 'data', text: true, from: ids[at], length: 14, body: 'grüße\nto all' });
    await from.evaluate(send, 'data', [ids[1 - at]], 5);
    await expectMessage(to, { label: 'data', text: false, from: ids[at], length: 5, body: '\0\x07\x0e\x15\x1c' });
    // Not retransmitted, so a busy machine may lose one.
    const fast = () => from.evaluate(send, 'data-lossy', [], 'fast');
    await fast();
    await expectMessage(to, { label: 'data-lossy', text: true, from: ids[at], length: 4, body: 'fast' }, fast);

    const long = 200 << 10;
    await from.evaluate(send, 'data', [], long);
    const came = await untilMessage(to, 'data');
    assert.deepEqual([came.length, came.sum, came.from], [long, sum(long), ids[at]]);
  }
  await pages[0].evaluate(send, 'data', [ids[0], 'nobody'], 'to nobody');
  await pages[0].evaluate(send, 'data', [], 'last');
  await expectMessage(pages[1], { label: 'data', text: true, from: ids[0], length: 4, body: 'last' });
}

scenario('beside media, in both directions', async (t) => {
  const pages = await Promise.all(['chromium', firefox].map((name, at) => rig.plain(t, name, 'beside', PEOPLE[at])));
  await expectCall(pages, { windows: 1 });
  await Promise.all(pages.map((page) => page.evaluate(openChannels)));
  await expectBothWays(pages);
  await expectCall(pages, { windows: 1 });
});

scenario('without any media', async (t) => {
  const pages = await Promise.all(['chromium', firefox].map((name, at) => rig.plain(t, name, 'alone', { ...PEOPLE[at], recv: '1' })));
  await Promise.all(pages.map(async (page) => {
    await until(() => page.evaluate(() => window.participantId), SOON_MS, 'joined');
    await page.evaluate(openChannels);
  }));
  await expectBothWays(pages);
});

scenario('negotiated channels, closing, and many messages', async (t) => {
  const pages = await Promise.all(['chromium', firefox].map((name, at) => rig.plain(t, name, 'negotiated', { ...PEOPLE[at], recv: '1' })));
  await Promise.all(pages.map(async (page) => {
    await until(() => page.evaluate(() => window.participantId), SOON_MS, 'joined');
    await page.evaluate(async () => {
      window.texts = [];
      window.channel = pc.createDataChannel('data', { negotiated: true, id: 0 });
      window.channel.onmessage = ({ data }) => window.texts.push(data.split('\n')[1]);
      await new Promise((done) => { window.channel.onopen = done; });
      window.channel.send('');
    });
  }));
  const [ada, bob] = pages;
  await until(async () => {
    await ada.evaluate(() => window.channel.send('\nhello'));
    return bob.evaluate(() => window.texts.length > 0);
  }, SOON_MS, 'the server knows both channels');
  await bob.evaluate(() => { window.texts.length = 0; });
  const numbers = Array.from({ length: 150 }, (_, number) => `${number}`);
  await ada.evaluate((all) => { for (const number of all) window.channel.send(`\n${number}`); }, numbers);
  await until(() => bob.evaluate(() => window.texts.filter((text) => text !== 'hello').length === 150), SOON_MS, 'all come');
  assert.deepEqual(await bob.evaluate(() => window.texts.filter((text) => text !== 'hello')), numbers, 'in order');

  for (const page of pages) {
    const closed = page.evaluate(() => new Promise((done) => {
      window.channel.onclose = () => done(true);
      window.channel.close();
    }));
    assert.ok(await closed, `the channel of ${page.browserName} closes`);
    await page.evaluate(openChannels);
  }
  await expectBothWays(pages);
});
