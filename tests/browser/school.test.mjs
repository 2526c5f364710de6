// Pages behind the firewall and the symmetric NAT of a school: what still gets in, how, and how soon.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BROWSERS, SOON_MS, openRig, until } from './rig.mjs';
import { expectPageFlow, joinPage, press, untilMoving } from './product.mjs';
import { openSchool, whyNoSchool } from './school.mjs';
import { openTrust } from './trust.mjs';

const NAME = 'outside.test';
const skip = whyNoSchool() ?? false;

let school;
let trust;
let rig;
before(async () => {
  if (skip) return;
  trust = openTrust(NAME);
  school = await openSchool();
  rig = await openRig('school', trust.settings, { place: school.outside, trust });
}, { timeout: 120_000 });
after(async () => { await rig?.close(); school?.close(); trust?.close(); }, { timeout: 60_000 });

const UDP = '-p udp';
/** ICE-TCP to the workers' ports. */
const MEDIA_TCP = '-p tcp --dport 7882:7945';
const TURN_TCP = '-p tcp --dport 3478';

const scenes = [
  { what: 'nothing is blocked: media goes straight, through the NAT', refused: [], ways: ['prflx/udp', 'srflx/udp', 'host/udp'] },
  { what: 'UDP is dropped', refused: [UDP], ways: ['prflx/tcp', 'host/tcp', 'srflx/tcp', 'relay/tcp', 'relay/tls'] },
  { what: 'only HTTP and TURN are let out by TCP', refused: [UDP, MEDIA_TCP], ways: ['relay/tcp', 'relay/tls'] },
  { what: 'only HTTP and TLS are let out', refused: [UDP, MEDIA_TCP, TURN_TCP], ways: ['relay/tls'] },
];

for (const browser of BROWSERS) {
  for (const { what, refused, ways } of scenes) {
    test(`${browser}: ${what}`, { timeout: 150_000, skip }, async (t) => {
      school.refuse(t, ...refused);
      const session = `school-${browser}-${scenes.findIndex((scene) => scene.what === what)}`;
      const line = await rig.line();
      t.after(() => line.close());
      const host = await joinPage(rig, t, 'chromium', session, 'host', { url: line.url });
      await until(() => host.evaluate(() => window.probe.way().then((way) => way.type)), SOON_MS, 'the first is connected');
      const guest = await joinPage(rig, t, browser, session, 'guest', { url: line.url });
      await untilMoving(guest, 'host');
      t.diagnostic(`the picture is seen ${Date.now() - guest.joinedAt} ms after joining`);
      await expectPageFlow([host, guest], 1);
      const way = await guest.evaluate(() => window.probe.way());
      t.diagnostic(`by ${way.type}/${way.over}`);
      assert.ok(ways.includes(`${way.type}/${way.over}`), `by ${way.type}/${way.over}`);
    });
  }
}
