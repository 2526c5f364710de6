// A test of the network between this browser and the server, and what to mend.

import { useState } from 'preact/hooks';
import { ms } from '../format';
import { tryWay } from '../network-test';
import type { Outcome, Way } from '../network-test';
import { Pill } from '../parts';

const WAYS: { way: Way; name: string; about: string; mend: string; absent: string }[] = [
  {
    way: 'udp', name: 'UDP', about: 'The best way: what nearly every call takes.',
    mend: 'Open UDP on the media ports ([media] port, one for each worker) in the firewall of the server, and see that the addresses above are those at which browsers reach it ([media] addresses). If only your own network blocks UDP, TCP and TURN must do.',
    absent: 'The server announces no UDP address: see [media] addresses.',
  },
  {
    way: 'tcp', name: 'TCP', about: 'For networks that block UDP.',
    mend: 'Open TCP on the same ports as UDP in the firewall of the server.',
    absent: 'The server takes no media over TCP: [media] tcp is off.',
  },
  {
    way: 'turn-udp', name: 'TURN over UDP', about: 'One port for all media.',
    mend: 'Open UDP on the TURN port ([turn] port, 3478), and see that the address above is one at which browsers reach it ([turn] host).',
    absent: 'The server tells browsers of no TURN server for UDP: see [turn] enabled or [turn] uris.',
  },
  {
    way: 'turn-tcp', name: 'TURN over TCP', about: 'For networks that let only a few ports through.',
    mend: 'Open TCP on the TURN port ([turn] port, 3478).',
    absent: 'The server tells browsers of no TURN server for TCP: see [turn] enabled or [turn] uris.',
  },
  {
    way: 'turn-tls', name: 'TURN over TLS', about: 'For networks that let through what looks like HTTPS.',
    mend: 'Open TCP on the TLS port (5349, or that of [tls] listen), and see that the certificate is one that browsers trust for the name above.',
    absent: 'There is no TURN over TLS: it needs a certificate ([tls] certificate and key), best with [tls] listen on port 443.',
  },
];

type Results = Partial<Record<Way, Outcome | 'running'>>;

export function NetworkTest() {
  const [results, setResults] = useState<Results>({});
  const running = Object.values(results).includes('running');
  const run = () => {
    setResults(Object.fromEntries(WAYS.map(({ way }) => [way, 'running' as const])));
    for (const { way } of WAYS) {
      tryWay(way)
        .catch((error: unknown): Outcome => ({ state: 'fails', tookMs: 0, rttMs: null, tried: [], errors: [error instanceof Error ? error.message : String(error)] }))
        .then((outcome) => setResults((before) => ({ ...before, [way]: outcome })));
    }
  };
  return (
    <>
      <header class="head">
        <h1>Network test</h1>
        <button type="button" class="primary" data-action="test" disabled={running} onClick={run}>{running ? 'Testing …' : 'Test this browser'}</button>
      </header>
      <p class="dim">Reaches the server from where you are, one way at a time, with a call of its own in the session <code>network-test</code>. Run it in the network that has trouble.</p>
      <p role="status" class="verdict">{verdict(results)}</p>
      <ul class="ways">
        {WAYS.map(({ way, name, about, mend, absent }) => {
          const result = results[way];
          const state = result === undefined ? 'untried' : result === 'running' ? 'running' : result.state;
          const outcome = typeof result === 'object' ? result : null;
          return (
            <li key={way} class="card" data-way={way} data-state={state}>
              <header><h2>{name}</h2><State result={result} /></header>
              <p class="dim">{about}</p>
              {outcome?.state === 'absent' && <p>{absent}</p>}
              {outcome && outcome.tried.length > 0 && <p>Tried <code>{outcome.tried.join(' ')}</code></p>}
              {outcome?.state === 'fails' && <p><strong>What to do:</strong> {mend}</p>}
              {outcome?.state === 'fails' && outcome.errors.map((error) => <p key={error} class="dim">The browser says: {error}</p>)}
            </li>
          );
        })}
      </ul>
    </>
  );
}

function State({ result }: { result: Outcome | 'running' | undefined }) {
  if (result === undefined) return null;
  if (result === 'running') return <Pill tone="plain">testing …</Pill>;
  if (result.state === 'absent') return <Pill tone="middling">not offered</Pill>;
  if (result.state === 'fails') return <Pill tone="bad">fails</Pill>;
  return <Pill tone="good">works{result.rttMs === null ? '' : `, ${ms(result.rttMs)}`}</Pill>;
}

/** What the results mean for people who call from here. */
function verdict(results: Results): string {
  const outcomes = WAYS.map(({ way }) => results[way]);
  if (outcomes.some((one) => one === undefined)) return '';
  if (outcomes.includes('running')) return 'Testing …';
  const works = WAYS.filter(({ way }) => (results[way] as Outcome).state === 'works').map(({ way }) => way);
  if (works.length === 0) return 'No media gets through from here: nobody in this network can be in a call.';
  if (works.includes('udp')) {
    return works.length === WAYS.length
      ? 'All is well: calls from here go over UDP, and every other way is there for networks that need it.'
      : 'Calls from here work, over UDP. What is missing below is for networks that are stricter than this one.';
  }
  return 'Calls from here work, though not by UDP: expect delays where packets are lost.';
}
