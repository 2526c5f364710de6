// The call page with 25 people: what it holds does not grow, and who is not on the screen costs nothing.
// LYCEUM_LONG=1 watches for five minutes and prints the rows of bench/RESULTS.md.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { SOON_MS, openRig, pass, until } from './rig.mjs';
import { joinPage, press } from './product.mjs';

const LONG = process.env.LYCEUM_LONG === '1';
const WATCHED_MS = LONG ? 300_000 : 6_000;
const OTHERS = 24;

let rig;
before(async () => { rig = await openRig('crowd'); }, { timeout: 300_000 });
after(() => rig?.close(), { timeout: 120_000 });

const frames = (page) => page.evaluate(async () => Object.fromEntries(Object.entries(await window.probe.counters()).map(([id, one]) => [id, one.frames])));
/** Without a handle to any element: those that are forgotten would be held. */
const shown = (page) => page.evaluate(() => [...document.querySelectorAll('.tile:not(.own)')].map((tile) => tile.dataset.participant));
const grown = (was, is) => Object.keys(is).filter((id) => is[id] > (was[id] ?? 0));

/** What the page holds when all that can go is gone. */
async function held(cdp, page) {
  await cdp.send('HeapProfiler.collectGarbage');
  const { metrics } = await cdp.send('Performance.getMetrics');
  const of = (name) => metrics.find((one) => one.name === name).value;
  const peers = await page.evaluate(() => window.probe.peers.filter((one) => one.connectionState !== 'closed').length);
  return { heap: of('JSHeapUsedSize'), nodes: of('Nodes'), listeners: of('JSEventListeners'), peers };
}

/** CPU seconds and resident bytes of each process that runs pages, but for those in `others`. */
async function renderers(browser, others = []) {
  const cdp = await browser.target().createCDPSession();
  const { processInfo } = await cdp.send('SystemInfo.getProcessInfo');
  await cdp.detach();
  return processInfo.filter((one) => one.type === 'renderer' && !others.includes(one.id)).map(({ id, cpuTime }) => {
    const [, kb] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, 'utf8')) ?? [0, 0];
    return { id, cpuTime, bytes: kb * 1_024 };
  });
}

/** What people do all the time: panels, views, and coming and going. */
async function bustle(page, crowd, round) {
  for (const panel of ['people', 'chat', 'settings']) {
    await press(page, panel);
    await press(page, panel);
  }
  await press(page, 'layout');
  await crowd.evaluate((at) => window.leave(at), round % OTHERS);
  await until(async () => (await page.evaluate(() => document.querySelectorAll('.tile').length)) <= OTHERS, SOON_MS, 'one is gone');
  await press(page, 'layout');
  await crowd.evaluate((at) => window.enter(at), round % OTHERS);
  await allSeen(page);
}

const allSeen = (page) => until(async () => {
  const tiles = await shown(page);
  const seen = await frames(page);
  return (tiles.length === OTHERS && tiles.every((id) => seen[id] > 0)) || assert.fail(`${tiles.length} tiles, ${Object.values(seen).filter(Boolean).length} pictures`);
}, SOON_MS, 'all pictures');

test('25 people: nothing grows, and only what is seen is decoded', { timeout: 300_000 + WATCHED_MS }, async (t) => {
  const session = 'crowd';
  const crowd = await rig.crowd(t, 'chromium', session, OTHERS);
  await until(async () => (await crowd.evaluate(() => window.sending())) === OTHERS, SOON_MS, 'the crowd sends');
  const others = (await renderers(rig.browsers.chromium)).map(({ id }) => id);
  const page = await joinPage(rig, t, 'chromium', session, 'Viewer', { viewport: { width: 1280, height: 800 } });
  await allSeen(page);

  const cdp = await page.createCDPSession();
  await cdp.send('Performance.enable');
  await bustle(page, crowd, 0);
  await bustle(page, crowd, 1); // now all code is there and has run
  const before = await renderers(rig.browsers.chromium, others);
  const first = await held(cdp, page);
  const began = Date.now();
  let rounds = 2;
  let last = first;
  do {
    await bustle(page, crowd, rounds++);
    if (LONG) {
      await pass(20_000);
      last = await held(cdp, page);
      t.diagnostic(JSON.stringify(last));
    }
  } while (Date.now() - began < WATCHED_MS);
  const seconds = (Date.now() - began) / 1_000;
  const worked = (await renderers(rig.browsers.chromium, others)).map((one) => ({ ...one, cpu: one.cpuTime - (before.find(({ id }) => id === one.id)?.cpuTime ?? 0) }));
  const { cpu, bytes } = worked.sort((a, b) => b.cpu - a.cpu)[0];
  last = await held(cdp, page);
  const mb = (bytes) => (bytes / 1e6).toFixed(1);
  t.diagnostic(`| ${seconds.toFixed(0)} | ${rounds - 2} | ${mb(first.heap)} → ${mb(last.heap)} | ${first.nodes} → ${last.nodes} | ${mb(before.find(({ id }) => id === worked[0].id)?.bytes ?? 0)} → ${mb(bytes)} | ${(100 * cpu / seconds).toFixed(0)} |`);
  assert.equal(last.peers, 1, 'one connection');
  // What was shown last may be held until something else is: half as many elements again.
  assert.ok(last.heap < first.heap * 1.25 + 1e6, `heap ${first.heap} → ${last.heap}`);
  assert.ok(last.nodes < first.nodes * 1.6 + 500, `nodes ${first.nodes} → ${last.nodes}`);
  assert.ok(last.listeners < first.listeners * 1.6 + 100, `listeners ${first.listeners} → ${last.listeners}`);

  await t.test('who is on another page is not decoded, until that is turned to', async () => {
    await page.setViewport({ width: 640, height: 420 });
    await until(() => page.evaluate(() => document.querySelector('.pager') !== null), SOON_MS, 'pages');
    for (const turn of ['', 'next']) {
      if (turn) await press(page, turn);
      let was;
      await until(async () => {
        const tiles = await shown(page);
        was = await frames(page);
        await pass(2_000); // a window in which a picture would have moved
        const moving = grown(was, await frames(page));
        const same = JSON.stringify([...moving].sort()) === JSON.stringify([...tiles].sort());
        return (same && tiles.length < OTHERS) || assert.fail(`${tiles.length} tiles, ${moving.length} move`);
      }, SOON_MS, 'exactly the tiles that are shown move');
    }
  });
  await t.test('audio only decodes nothing', async () => {
    await press(page, 'audio-only');
    await until(async () => {
      const was = await frames(page);
      await pass(2_000);
      return grown(was, await frames(page)).length === 0;
    }, SOON_MS, 'nothing moves');
  });
});
