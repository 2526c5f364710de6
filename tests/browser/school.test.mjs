// Pages behind the firewall and the symmetric NAT of a school: what still gets in, how, and how soon; and when their own network changes.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BROWSERS, SOON_MS, openRig, pass, until } from './rig.mjs';
import { expectPageFlow, joinPage, tileOf, untilMoving, untilWay, untilWords } from './product.mjs';
import { NAME, openSchool, whyNoSchool } from './school.mjs';
import { openTrust } from './trust.mjs';

/** What is promised, on a machine that has nothing else to do: 5 s. */
const IN_MS_MAX = 20_000;
const skip = whyNoSchool() ?? false;

let school;
let trust;
let rig;
before(async () => {
  if (skip) return;
  trust = openTrust(NAME);
  school = await openSchool();
  rig = await openRig('school', { ...trust.settings, ...school.settings }, { place: school.place, trust });
}, { timeout: 300_000 });
after(async () => { await rig?.close(); school?.close(); trust?.close(); }, { timeout: 120_000 });

const HTTPS = '-p tcp --dport 443'; // TURN over TLS, too
const TURN_TCP = '-p tcp --dport 3478';

/** What the firewall lets out, and the ways by which media may go then. */
const scenes = [
  { what: 'everything', out: [''], ways: ['host/udp', 'prflx/udp'] },
  { what: 'TCP', out: ['-p tcp'], ways: ['host/tcp', 'prflx/tcp', 'relay/tcp', 'relay/tls'] },
  { what: 'HTTPS and TCP to TURN', out: [HTTPS, TURN_TCP], ways: ['relay/tcp', 'relay/tls'] },
  { what: 'HTTPS', out: [HTTPS], ways: ['relay/tls'] },
];

test('the NAT is symmetric', { skip }, async () => {
  const [first, second] = await school.portsOutside();
  assert.notEqual(first, second);
});

for (const browser of BROWSERS) {
  for (const { what, out, ways } of scenes) {
    test(`${browser}, let out: ${what}`, { timeout: 300_000, skip }, async (t) => {
      school.letOut(t, ...out);
      const session = `school-${browser}-${what.replaceAll(' ', '-')}`;
      const host = await joinPage(rig, t, 'chromium', session, 'host');
      await untilWay(host, () => true, 'some way: the first is connected');
      const guest = await joinPage(rig, t, browser, session, 'guest');
      await untilMoving(guest, 'host', IN_MS_MAX);
      t.diagnostic(`the picture is seen ${Date.now() - guest.joinedAt} ms after joining`);
      await expectPageFlow([host, guest], 1);
      const way = await untilWay(guest, ({ type, over }) => ways.includes(`${type}/${over}`), `by one of ${ways}`);
      t.diagnostic(`by ${way.type}/${way.over}`);
      if (way.type === 'relay') await untilWords(guest, '.relayed', new RegExp(`Relayed \\(${way.over.toUpperCase()}\\)`));
    });
  }
}

/** What a page has decoded and heard of somebody, the seats it shows, and its connections. */
const received = (page, from) => page.evaluate(async (selector) => {
  const { participant } = document.querySelector(selector).dataset;
  const { frames = 0, energy = 0 } = (await window.probe.counters())[participant] ?? {};
  const seats = [...document.querySelectorAll('.tile[data-user]')].map((tile) => tile.dataset.participant).sort();
  return { frames, energy, seats, connections: window.probe.peers.length };
}, tileOf(from.as.name));

test('another interface in place of the one that all used: the call goes on in the same seats', { timeout: 300_000, skip }, async (t) => {
  const pages = await Promise.all(['chromium', BROWSERS.at(-1)].map((browser, at) => joinPage(rig, t, browser, 'moved', `${browser}-${at}`)));
  await expectPageFlow(pages, 1);
  const look = () => Promise.all(pages.map((page, at) => received(page, pages[1 - at])));
  const { seats, connections } = (await look())[0];
  // At once, as from Wi-Fi to a cable; and where there is nothing between, as from Wi-Fi to a telephone.
  for (const awayMs of [0, 1_500]) {
    school.unplug();
    await pass(awayMs);
    const before = await look();
    school.plug();
    const began = Date.now();
    const again = pages.map(() => NaN);
    // Firefox counts anew after a restart of ICE.
    const more = (now, then, least) => now - (now < then ? 0 : then) > least;
    await until(async () => {
      const now = await look();
      now.forEach(({ frames }, at) => { if (more(frames, before[at].frames, 3)) again[at] ||= Date.now() - began; });
      return now.every(({ energy }, at) => again[at] && more(energy, before[at].energy, 0));
    }, SOON_MS, () => `both see and hear again: ${again}`);
    pages.forEach((page, at) => t.diagnostic(`| another interface, ${awayMs} ms after the first had gone | ${page.browserName} | sees again after ${again[at]} ms |`));
  }
  for (const now of await look()) assert.deepEqual([now.seats, now.connections], [seats, connections], 'the same seats and connections');
});
