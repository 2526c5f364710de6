// Pages behind the firewall and the symmetric NAT of a school: what still gets in, how, and how soon.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BROWSERS, openRig } from './rig.mjs';
import { expectPageFlow, joinPage, untilMoving, untilWay, untilWords } from './product.mjs';
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
