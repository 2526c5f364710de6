// Calls that go by the embedded TURN server alone.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BROWSERS, SOON_MS, openRig, until } from './rig.mjs';
import { expectPageFlow, joinPage } from './product.mjs';
import { openTrust } from './trust.mjs';

/** Firefox speaks TLS only to a TURN server that has a name. */
const NAME = 'lyceum.test';

let trust;
let rig;
before(async () => {
  trust = openTrust(NAME);
  rig = await openRig('relay', trust.settings, { trust });
}, { timeout: 120_000 });
after(async () => { await rig?.close(); trust?.close(); }, { timeout: 60_000 });

for (const transport of ['udp', 'tcp', 'tls']) {
  test(`a call over TURN/${transport.toUpperCase()}`, { timeout: 150_000 }, async (t) => {
    const session = `relay-${transport}`;
    const pages = [];
    for (const browser of BROWSERS) pages.push(await joinPage(rig, t, browser, session, browser, { query: { relay: transport } }));
    if (pages.length < 2) pages.push(await joinPage(rig, t, BROWSERS[0], session, 'second', { query: { relay: transport } }));
    await expectPageFlow(pages, 2);
    for (const page of pages) {
      assert.deepEqual(await page.evaluate(() => window.probe.way()), { type: 'relay', over: transport }, page.as.name);
    }
  });
}
