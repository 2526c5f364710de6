// Calls that go by the embedded TURN server alone.

import { after, before, test } from 'node:test';
import { BROWSERS, SOON_MS, openRig, until } from './rig.mjs';
import { expectPageFlow, joinPage, press, untilWay, untilWords } from './product.mjs';
import { openTrust } from './trust.mjs';

/** In `hosts`: Firefox speaks TLS only to a TURN server that has a name. */
const NAME = 'lyceum.test';

let trust;
let rig;
before(async () => {
  trust = openTrust(NAME);
  rig = await openRig('relay', trust.settings, { trust });
}, { timeout: 300_000 });
after(async () => { await rig?.close(); trust?.close(); }, { timeout: 120_000 });

const scenario = (name, body) => test(name, { timeout: 300_000 }, body);

/** A call of two, which may use no other path than TURN over this transport: one page in each browser. */
const meet = async (t, transport) => {
  const [one, other] = [BROWSERS.at(0), BROWSERS.at(-1)];
  const join = (browser, name) => joinPage(rig, t, browser, `relay-${transport}`, name, { query: { relay: transport } });
  return [await join(one, 'ada'), await join(other, 'bob')];
};
const expectRelayed = async (pages, transport) => {
  await expectPageFlow(pages, 2);
  for (const page of pages) {
    await untilWay(page, ({ type, over }) => type === 'relay' && over === transport, `by TURN over ${transport}`);
    await untilWords(page, '.relayed', new RegExp(`Relayed \\(${transport.toUpperCase()}\\)`));
  }
};
const allocations = async (transport) => {
  const text = await (await fetch(`${rig.lyceum.admin}/metrics`)).text();
  return Number(text.match(new RegExp(`^lyceum_turn_allocations{transport="${transport}"} (.*)$`, 'm'))[1]);
};

for (const transport of ['udp', 'tcp', 'tls']) {
  scenario(`a call over TURN/${transport.toUpperCase()}`, async (t) => {
    const pages = await meet(t, transport);
    await expectRelayed(pages, transport);
    await until(async () => await allocations(transport) >= 2, SOON_MS, 'an allocation for each');
    for (const page of pages) await press(page, 'leave');
    await until(async () => await allocations(transport) === 0, SOON_MS, 'allocations end with their seats');
  });
}

scenario('a relayed call outlives a restart of the server, which makes all credentials void', async (t) => {
  const pages = await meet(t, 'udp');
  await expectRelayed(pages, 'udp');
  await rig.lyceum.end('SIGKILL');
  await rig.lyceum.start();
  const began = Date.now();
  await expectRelayed(pages, 'udp');
  t.diagnostic(`relayed again, and seen for 4 s, ${Date.now() - began} ms after the server was ready`);
});
