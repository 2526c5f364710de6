// Networks that block UDP, from the start or in the middle of a call.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { BROWSERS, SOON_MS, openRig, until } from './rig.mjs';
import { PEOPLE, expectCall, isColour } from './expect.mjs';
import { untilWay } from './product.mjs';

/** What is promised, on a machine that has nothing else to do: 5 s. */
const IN_MS_MAX = 20_000;
/** Most workers, and so media ports, of a server. */
const WORKERS_MAX = 64;

let rig;
before(async () => { rig = await openRig('paths'); }, { timeout: 300_000 });
after(() => rig?.close(), { timeout: 120_000 });

const canFilter = (() => {
  try { execFileSync('iptables', ['-L', '-n'], { stdio: 'ignore' }); return true; } catch { return false; }
})();

/** Media over UDP arrives no more, in this namespace, until the returned function is called or the test `t` ends. */
function blockUdp(t) {
  const rule = ['-p', 'udp', '--dport', `${rig.lyceum.media}:${rig.lyceum.media + WORKERS_MAX}`, '-j', 'DROP'];
  execFileSync('iptables', ['-I', 'INPUT', ...rule]);
  let blocked = true;
  const unblock = () => { if (blocked) execFileSync('iptables', ['-D', 'INPUT', ...rule]); blocked = false; };
  t.after(unblock);
  return unblock;
}

const untilOver = (page, transport) => untilWay(page, ({ over }) => over === transport, `over ${transport}`);

const sees = (page, other) => page.evaluate((user) => {
  const video = [...document.querySelectorAll('video')].find((one) => names[one.id] === user);
  return video && window.probe.colourOf(video);
}, other.user);
const metric = async (name) => {
  const text = await (await fetch(`${rig.lyceum.admin}/metrics`)).text();
  return Number(text.match(new RegExp(`^${name} (.*)$`, 'm'))[1]);
};
const scenario = (name, body) => test(name, { timeout: 300_000, skip: !canFilter && 'iptables is not allowed here' }, body);

for (const browser of BROWSERS) {
  scenario(`${browser}: where UDP is blocked, media comes over TCP`, async (t) => {
    const session = `tcp-${browser}`;
    blockUdp(t); // for both: they share the namespace
    const host = await rig.plain(t, 'chromium', session, PEOPLE[0]);
    await until(() => host.evaluate(() => pc?.connectionState === 'connected'), SOON_MS, 'the first is connected');
    const guest = await rig.plain(t, browser, session, PEOPLE[1]);
    const began = Date.now();
    await until(() => guest.evaluate(() => pc?.connectionState === 'connected'), IN_MS_MAX, 'the guest is connected');
    const connected = Date.now() - began;
    await until(async () => isColour(await sees(guest, PEOPLE[0]), PEOPLE[0].colour), IN_MS_MAX, 'the picture');
    t.diagnostic(`connected after ${connected} ms, the picture seen after ${Date.now() - began} ms`);
    await untilOver(guest, 'tcp');
    await expectCall([host, guest], { windows: 3 });
  });

  scenario(`${browser}: UDP that is blocked in the middle of a call is left for TCP, in the same seat`, async (t) => {
    const session = `change-${browser}`;
    const handshakesBefore = await metric('lyceum_dtls_connected_total');
    const pages = [await rig.plain(t, browser, session, PEOPLE[2]), await rig.plain(t, 'chromium', session, PEOPLE[3])];
    await expectCall(pages, { windows: 1 });
    await untilOver(pages[0], 'udp');
    const seats = await Promise.all(pages.map((page) => page.evaluate(() => window.participantId)));
    // The workers report theirs once in a while.
    const handshakes = await until(async () => {
      const now = await metric('lyceum_dtls_connected_total');
      return now >= handshakesBefore + pages.length && now;
    }, SOON_MS, 'a handshake of each page is counted');
    blockUdp(t);
    const began = Date.now();
    const flow = (page, from) => page.evaluate((user) => window.probe.flow().then((all) => all[user]?.frames ?? 0), from.user);
    const [first, second] = [await flow(pages[0], PEOPLE[3]), await flow(pages[1], PEOPLE[2])];
    await until(async () => await flow(pages[0], PEOPLE[3]) > first + 15 && await flow(pages[1], PEOPLE[2]) > second + 15,
      60_000, 'frames flow again');
    t.diagnostic(`frames again after ${Date.now() - began} ms`);
    await expectCall(pages, { windows: 2 });
    await Promise.all(pages.map((page) => untilOver(page, 'tcp')));
    assert.deepEqual(await Promise.all(pages.map((page) => page.evaluate(() => window.participantId))), seats);
    assert.equal(await metric('lyceum_dtls_connected_total'), handshakes, 'the same associations');
  });
}
