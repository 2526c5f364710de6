// Prints the rows of the section «The page» in bench/RESULTS.md: how long joins take. JOINS says how many of each.

import { BROWSERS, openRig } from './rig.mjs';
import { NO_DETOUR, joinAlone, openWay, percentile, timedJoin } from './joins.mjs';

const count = Number(process.env.JOINS ?? 10);
const rig = await openRig('budget', NO_DETOUR);
for (const rtt of (process.env.RTTS ?? '0,100').split(',').map(Number)) {
  for (const browserName of BROWSERS) {
    const way = await openWay(rig.lyceum, rtt);
    const session = `budget-${rtt}-${browserName}`;
    // Somebody is there already, as far away as the newcomers.
    const host = await joinAlone(rig, way, session);
    const times = [];
    for (let at = 0; at < count; at++) {
      const after = await timedJoin(rig, browserName, way, session, `Guest${at}`);
      times.push(after.picture);
      if (process.env.VERBOSE) console.log(JSON.stringify(after));
    }
    console.log(`| ${browserName} | ${rtt} | ${percentile(times, 0.5)} | ${percentile(times, 0.95)} | ${Math.max(...times)} |`);
    await host();
    way.close();
  }
}
await rig.close();
