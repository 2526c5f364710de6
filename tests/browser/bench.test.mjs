// The load tester's bots, joined by browsers: their recordings are seen and heard.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { BROWSERS, LYCEUM_BIN, SOON_MS, openRig, until } from './rig.mjs';

let rig;
before(async () => { rig = await openRig('bench'); }, { timeout: 300_000 });
after(() => rig?.close(), { timeout: 120_000 });

const LYCEUM_BENCH = process.env.LYCEUM_BENCH ?? join(dirname(LYCEUM_BIN), 'lyceum-bench');
/** The mean of the recorded picture, of which the most is one colour, and the tone that goes with it. */
const COLOUR = [38, 117, 117];
const TONE = 440;

test('browsers in a room of bots see and hear them', { timeout: 300_000 }, async (t) => {
  const bots = spawn(LYCEUM_BENCH, [
    'call', '--url', rig.lyceum.url, '--session', 'bots', '--participants', '1', '--audio', '--video', '--simulcast', '--bitrate', '300k',
    '--ramp', '100ms', '--duration', '10m', '--quiet',
  ], { stdio: 'inherit' });
  t.after(() => bots.kill());
  const pages = await Promise.all(BROWSERS.map((name) => rig.plain(t, name, 'bots-0', { user: name, recv: '1' })));
  await Promise.all(pages.map(async (page) => {
    const tiles = () => page.evaluate(async () => Object.values(await window.probe.content()));
    const isRight = ({ colour, tone }) => colour?.every((part, at) => Math.abs(part - COLOUR[at]) < 40) && Math.abs(tone - TONE) <= 12;
    await until(async () => {
      const seen = await tiles();
      return (seen.length === 2 && seen.every(isRight)) || assert.fail(JSON.stringify(seen));
    }, SOON_MS, `${page.browserName} sees and hears two bots`);
    // Past the recording's end, which is after 5 s, it goes on.
    const frames = () => page.evaluate(async () => Object.values(await window.probe.flow()).map((flow) => flow.frames));
    const before = await frames();
    await until(async () => (await frames()).every((count, at) => count >= before[at] + 60) || assert.fail(`${before}, ${await frames()}`), SOON_MS, `pictures go on in ${page.browserName}`);
  }));
});
