// Layers as browsers make and show them: sizes follow tiles and links, and frames are decoded all along.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BROWSERS, SOON_MS, openRig, pass, until } from './rig.mjs';
import { ONE_WORKER, openProxy } from './proxy.mjs';

let rig;
before(async () => { rig = await openRig('layers', ONE_WORKER); }, { timeout: 300_000 });
after(() => rig?.close(), { timeout: 120_000 });

const hasFirefox = BROWSERS.includes('firefox');
/** Long enough for a browser on a busy machine to raise its top layer. */
const CLIMB_MS = 90_000;
/** No gap in decoding may be longer than this, whatever the link does, unless the server says that the picture is paused. */
const GAP_MS_MAX = 10_000;
let sessions = 0;

const seen = (page) => page.evaluate(() => window.seen());

/** Follows the frames that a page decodes until the test ends; `stop()` gives the longest time without one so far, in ms. */
function follow(t, page) {
  let longest = 0;
  let going = true;
  t.after(() => { going = false; });
  const done = (async () => {
    let [frames, at] = [(await seen(page)).frames, Date.now()];
    while (going) {
      await pass(100);
      const { frames: now, paused } = await seen(page);
      if (now > frames || paused) [frames, at] = [now, Date.now()];
      longest = Math.max(longest, Date.now() - at);
    }
  })().catch(() => {}); // the page was closed by a test that failed
  return { stop: async () => { going = false; await done; return longest; } };
}

const untilWidth = (page, accept, ms, what) => until(async () => {
  const { width, paused } = await seen(page);
  return accept(width, paused);
}, ms, `${page.as.user} (${page.browserName}) gets ${what}`);

/** One publisher, one viewer behind a weak link in each browser that can decode. */
function layered(name, { from, viewers, send, sizes, narrow = 300_000 }) {
  if ([from, ...viewers].includes('firefox') && !hasFirefox) return;
  test(name, { timeout: 600_000 }, async (t) => {
    const session = `layers-${++sessions}`;
    const publisher = await rig.layers(t, from, session, { user: 'teacher', ...send });
    const proxies = await Promise.all(viewers.map(() => openProxy(rig.lyceum.media)));
    t.after(() => proxies.forEach((proxy) => proxy.close()));
    const pages = await Promise.all(viewers.map((browser, at) =>
      rig.layers(t, browser, session, { user: `viewer-${browser}`, through: proxies[at].port })));
    const [small, large] = sizes;
    await Promise.all(pages.map((page) => untilWidth(page, (w) => w >= large, CLIMB_MS, 'the largest picture')));
    const followed = pages.map((page) => follow(t, page));

    await t.test('a small tile gets a small picture, a large one the large again', async () => {
      await Promise.all(pages.map((page) => page.evaluate(() => window.want({ width: 200, height: 120 }))));
      await Promise.all(pages.map((page) => untilWidth(page, (w) => w > 0 && w <= small, SOON_MS, 'the smallest picture')));
      await Promise.all(pages.map((page) => page.evaluate(() => window.want({ width: 1280, height: 720 }))));
      await Promise.all(pages.map((page) => untilWidth(page, (w) => w >= large, CLIMB_MS, 'the largest picture again')));
    });

    await t.test('a narrow link gets less, and all again when it is wide', async () => {
      for (const { down } of proxies) down.bps = narrow;
      await Promise.all(pages.map((page) => untilWidth(page, (w, paused) => (w > 0 && w < large) || paused, SOON_MS, 'a smaller picture, or none for now')));
      await pass(3_000); // the link stays narrow for a while
      for (const { down } of proxies) down.bps = Infinity;
      await Promise.all(pages.map((page) => untilWidth(page, (w, paused) => w >= large && !paused, CLIMB_MS, 'the largest picture after the narrow time')));
    });

    for (const [at, one] of followed.entries()) {
      const gap = await one.stop();
      t.diagnostic(`${viewers[at]}: longest time without a frame ${gap} ms; ${JSON.stringify(await seen(pages[at]))}`);
      assert.ok(gap <= GAP_MS_MAX, `${viewers[at]} decoded nothing for ${gap} ms`);
    }

    await t.test('nobody watches: the publisher stops what it can', { skip: send.svc !== undefined }, async () => {
      await Promise.all(pages.map((page) => page.evaluate(() => window.want({ enabled: false }))));
      const wanted = await until(() => publisher.evaluate(() => {
        const last = window.told.filter((one) => one.event === 'layers-wanted').at(-1);
        return last?.layers.every((layer) => !layer.active) && last;
      }), SOON_MS, 'no layer is wanted');
      assert.deepEqual(wanted.layers.map((layer) => layer.rid).sort(), ['f', 'h', 'q']);
    });
  });
}

const both = ['chromium', 'firefox'];
const rids = [240, 960];
layered('Chromium sends VP8 in three layers', { from: 'chromium', viewers: both, send: { send: 'VP8' }, sizes: rids });
layered('Chromium sends H.264 in three layers', { from: 'chromium', viewers: ['chromium'], send: { send: 'H264' }, sizes: rids });
layered('Chromium sends VP9 in spatial layers', { from: 'chromium', viewers: both, send: { send: 'VP9', svc: 'L3T3_KEY' }, sizes: rids });
layered('Chromium sends AV1 in spatial layers', { from: 'chromium', viewers: both, send: { send: 'AV1', svc: 'L3T3' }, sizes: rids });
// In a tab behind others Firefox paints a canvas once a second, but its cameras go on.
layered('Firefox sends VP8 in three layers', { from: 'firefox', viewers: both, send: { send: 'VP8', camera: 1 }, sizes: [160, 640], narrow: 150_000 });
