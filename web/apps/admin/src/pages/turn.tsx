// The TURN server: who goes through it, by what, and who was refused.

import { bytes, count } from '../format';
import { Card, Empty, Fault, Pill, Table } from '../parts';
import { usePolled } from '../poll';
import type { Overview } from '../types';

/** What to do about a refusal that comes often. */
const ADVICE: Record<string, string> = {
  malformed: 'strangers, or something that is no TURN client',
  unauthenticated: 'the first request of every client: nothing is wrong',
  rate_limited: 'strangers who ask too much',
  not_granted: 'credentials of somebody who has left',
  forbidden: 'a peer that may not be reached; [turn] peers lists more',
  stale_nonce: 'a client that was away: it asks again by itself',
  wrong_credentials: 'credentials that are made up, or of another secret: see [turn] secret',
  holder_quota: 'too many allocations of one participant: [turn] allocations_per_participant',
  capacity: 'too many allocations in all: [turn] allocations',
};

export function TurnPage() {
  const { data, fault } = usePolled<Overview>('/v1/admin/overview', 3_000);
  const turn = data?.turn;
  return (
    <>
      <h1>TURN</h1>
      <Fault words={fault} />
      {turn?.state === 'off' && <Empty>There is no TURN server: browsers behind strict firewalls cannot join. Set <code>[turn] enabled</code>.</Empty>}
      {turn?.state === 'external' && <Empty>Browsers are told of the servers in <code>[turn] uris</code>. What goes through them is seen there.</Empty>}
      {turn?.allocations && (
        <>
          <p>It <Pill tone={turn.state === 'healthy' ? 'good' : 'bad'}>{turn.state === 'healthy' ? 'runs' : 'is stuck'}</Pill> on UDP and TCP {turn.port}{turn.tlsPort ? `, TLS ${turn.tlsPort}` : '; without a certificate there is no TLS'}.</p>
          <ul class="tiles">
            <li><span>By UDP</span><b>{turn.allocations.udp}</b></li>
            <li><span>By TCP</span><b>{turn.allocations.tcp}</b></li>
            <li><span>By TLS</span><b>{turn.allocations.tls}</b></li>
            <li><span>Ever made</span><b>{count(turn.allocated ?? 0)}</b></li>
          </ul>
          <Card title="Payload">
            <Table label="Payload" heads={['To', 'From clients', 'To clients']}>
              {turn.mediaBytes && <tr><td>our own media</td><td>{bytes(turn.mediaBytes.fromClients)}</td><td>{bytes(turn.mediaBytes.toClients)}</td></tr>}
              {turn.relayBytes && <tr><td>listed peers</td><td>{bytes(turn.relayBytes.fromClients)}</td><td>{bytes(turn.relayBytes.toClients)}</td></tr>}
            </Table>
          </Card>
          <Card title="Refused">
            {Object.keys(turn.refusals ?? {}).length === 0 ? <Empty>Nobody yet.</Empty> : (
              <Table label="Refusals" heads={['Why', 'Times', 'What it means']}>
                {Object.entries(turn.refusals ?? {}).map(([why, times]) => <tr key={why}><td>{why.replaceAll('_', ' ')}</td><td>{count(times)}</td><td>{ADVICE[why] ?? '–'}</td></tr>)}
              </Table>
            )}
          </Card>
        </>
      )}
    </>
  );
}
