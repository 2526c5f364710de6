// This node at a glance, and the last five minutes.

import { useEffect, useState } from 'preact/hooks';
import { Chart } from '../chart';
import { bits, bytes, count, ms, percent, span, time } from '../format';
import { Card, Empty, Fault, Pill, Table } from '../parts';
import { usePolled } from '../poll';
import type { NodeRow, Overview as Facts } from '../types';

const EVERY_MS = 2_000;
/** Five minutes. */
const POINTS_MAX = 150;

interface Point { packetsIn: number; packetsOut: number; bitsIn: number; bitsOut: number; participants: number; rooms: number; cpu: number }

/** They outlive the page, so that whoever looks elsewhere for a moment finds them. */
let before: Facts | null = null;
let points: Point[] = [];

function note(now: Facts) {
  const seconds = before ? (now.timestamp - before.timestamp) / 1_000 : 0;
  const isOurs = before?.node.startedAt === now.node.startedAt;
  if (before && isOurs && seconds > 0) {
    const was = before;
    const rate = (of: keyof Facts['counters']) => Math.max(0, now.counters[of] - was.counters[of]) / seconds;
    points = [...points, {
      packetsIn: rate('packetsIn'),
      packetsOut: rate('packetsOut'),
      bitsIn: rate('bytesIn') * 8,
      bitsOut: rate('bytesOut') * 8,
      participants: now.totals.participants,
      rooms: now.totals.rooms,
      cpu: (now.node.cpuSeconds - was.node.cpuSeconds) / seconds,
    }].slice(-POINTS_MAX);
  }
  if (!isOurs) points = [];
  if (!before || !isOurs || seconds > 0) before = now;
}

export function Overview() {
  const { data, fault } = usePolled<Facts>('/v1/admin/overview', EVERY_MS);
  const nodes = usePolled<{ nodes: NodeRow[] }>('/v1/admin/nodes', 10_000);
  const [, setDrawn] = useState(0);
  useEffect(() => {
    if (!data) return;
    note(data);
    setDrawn((drawn) => drawn + 1);
  }, [data]);
  const line = (of: keyof Point) => points.map((point) => point[of]);
  if (!data) return <><h1>Overview</h1><Fault words={fault} /></>;
  const { node, totals, workers, turn, history, counters } = data;
  const others = (nodes.data?.nodes.length ?? 0) > 1;
  const dead = workers.filter((worker) => worker.idleMs === null || worker.idleMs > 5_000).length;
  return (
    <>
      <header class="head">
        <h1>Overview</h1>
        <p class="dim">This node, <code>{node.nodeId}</code></p>
      </header>
      <Fault words={fault} />
      {others && <p class="dim">All figures and charts are of this node only. Of the others, «All nodes» below has what is known here.</p>}
      <ul class="tiles">
        <Tile name="Rooms" value={count(totals.rooms)} />
        <Tile name="Participants" value={count(totals.participants)} />
        <Tile name="With media" value={count(totals.peersConnected)} />
        <Tile name="Tracks" value={`${count(totals.tracks)} → ${count(totals.subscriptions)}`} />
        <Tile name="Memory" value={bytes(node.residentBytes)} />
        <Tile name="Up for" value={span(data.timestamp - node.startedAt)} />
      </ul>
      <div class="charts">
        <Chart title="Bitrate" most={POINTS_MAX} show={bits} lines={[{ name: 'in', values: line('bitsIn') }, { name: 'out', values: line('bitsOut') }]} />
        <Chart title="Packets a second" most={POINTS_MAX} show={count} lines={[{ name: 'in', values: line('packetsIn') }, { name: 'out', values: line('packetsOut') }]} />
        <Chart title="Participants" most={POINTS_MAX} show={count} lines={[{ name: '', values: line('participants') }]} />
        <Chart title="Processor, % of a core" most={POINTS_MAX} show={count} lines={[{ name: '', values: line('cpu').map((part) => part * 100) }]} />
      </div>
      <Card title="State">
        <dl class="facts">
          <dt>Media workers</dt><dd><Pill tone={dead ? 'bad' : 'good'}>{workers.length - dead} of {workers.length} run</Pill></dd>
          <dt>Database</dt><dd><Pill tone={history.databaseUp ? 'good' : 'bad'}>{history.databaseUp ? `answers in ${ms(history.databaseMs)}` : 'away: calls go on, history waits in the journal'}</Pill></dd>
          <dt>Journal</dt><dd><Pill tone={history.recording ? 'good' : 'bad'}>{history.recording ? 'writes' : 'full or its disk refuses: nobody new gets in'}</Pill> {bytes(history.journalBytes)}, {count(history.waitingFacts)} facts wait</dd>
          <dt>TURN</dt><dd><Pill tone={turn.state === 'unhealthy' ? 'bad' : turn.state === 'off' ? 'plain' : 'good'}>{turn.state}</Pill></dd>
          <dt>Asked again</dt><dd>{count(counters.asked)} packets of publishers, {count(counters.askedOfUs)} of us; {count(counters.dropped)} dropped</dd>
          <dt>Version</dt><dd>{node.version}, since {time(node.startedAt)}</dd>
        </dl>
      </Card>
      <Card title="Media workers">
        <Table label="Media workers" heads={['Addresses', 'Loop', 'Rooms', 'Peers', 'Tracks', 'Subscriptions']}>
          {workers.map((worker) => (
            <tr key={worker.addresses.join()}>
              <td><code>{worker.addresses.join(' ')}</code></td>
              <td>{worker.idleMs === null ? <Pill tone="bad">ended</Pill> : worker.idleMs > 5_000 ? <Pill tone="bad">stuck</Pill> : <Pill tone="good">runs</Pill>}</td>
              <td>{worker.rooms}</td><td>{worker.peers}</td><td>{worker.tracks}</td><td>{worker.subscriptions}</td>
            </tr>
          ))}
        </Table>
      </Card>
      <Card title="All nodes">
        <Fault words={nodes.fault} />
        {nodes.data?.nodes.length === 0 && <Empty>No node has written to the database yet.</Empty>}
        {nodes.data && nodes.data.nodes.length > 0 && (
          <Table label="Nodes" heads={['Node', 'Last seen', 'Meetings that are on', 'People in them']}>
            {nodes.data.nodes.map((one) => (
              <tr key={one.nodeId}>
                <td><code>{one.nodeId}</code> {one.isThis && <Pill tone="plain">this one</Pill>}</td>
                <td>{one.isThis || data.timestamp - one.seenAt < 60_000 ? <Pill tone="good">lives</Pill> : <Pill tone="bad">silent since {time(one.seenAt)}</Pill>}</td>
                <td>{one.meetings}</td><td>{one.participants}</td>
              </tr>
            ))}
          </Table>
        )}
        {nodes.data && nodes.data.nodes.length > 1 && <p class="dim">Of other nodes this is what they last wrote to the database, every few seconds. How media flows there, each shows on its own <code>/admin</code>.</p>}
      </Card>
      <p class="spoken" role="status">{percent(workers.length ? 1 - dead / workers.length : 0)} of the media workers run.</p>
    </>
  );
}

const Tile = ({ name, value }: { name: string; value: string }) => <li><span>{name}</span><b>{value}</b></li>;
