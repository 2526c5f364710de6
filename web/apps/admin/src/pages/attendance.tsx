// Who was in a meeting, and when: a table, a picture, and a file for spreadsheets.

import { useState } from 'preact/hooks';
import { download, part } from '../api';
import { span, time, timeOfDay } from '../format';
import { Card, Empty, Fault, Table } from '../parts';
import { usePolled } from '../poll';
import type { Attendee, Summary } from '../types';

export function Attendance({ meeting }: { meeting: string }) {
  const path = `/v1/meetings/${part(meeting)}/attendance`;
  const { data, fault, again } = usePolled<Summary>(path, 0);
  const [refused, setRefused] = useState('');
  const save = () => download(`${path}.csv`, `${data?.sessionId ?? meeting}.csv`).then(() => setRefused(''), (error: Error) => setRefused(error.message));
  return (
    <>
      <p class="crumbs"><a href="#/meetings">Meetings</a></p>
      <header class="head">
        <h1>{data?.sessionId ?? 'Meeting'}</h1>
        <div class="buttons">
          {data && data.endedAt === null && <button type="button" onClick={again}>Refresh</button>}
          <button type="button" data-action="csv" onClick={save}>Save as CSV</button>
        </div>
      </header>
      <Fault words={fault || refused} />
      {data && (
        <>
          <p class="dim">{time(data.startedAt)} – {data.endedAt === null ? 'is on' : time(data.endedAt)}; {data.totalParticipants} people, {data.peakParticipants} at once.
            {data.uncertaintyMs > 0 && ` The server crashed meanwhile: times may be wrong by ${span(data.uncertaintyMs)}.`}</p>
          {data.participants.length === 0 ? <Empty>Nobody was there.</Empty> : (
            <>
              <Card title="Timeline"><Timeline summary={data} /></Card>
              <Table label="Attendance" heads={['Name', 'Role', 'Came', 'Left', 'There', 'Spoke', 'Camera', 'Screen', 'Visits']}>
                {data.participants.map((one) => <Row key={one.userId} one={one} />)}
              </Table>
            </>
          )}
        </>
      )}
    </>
  );
}

const Row = ({ one }: { one: Attendee }) => (
  <tr>
    <td>{one.userName} <small>{one.userId}</small></td><td>{one.role}</td><td>{time(one.firstJoinAt)}</td>
    <td>{one.lastLeaveAt === null ? 'is there' : time(one.lastLeaveAt)}</td>
    <td>{span(one.connectedMs)}</td><td>{span(one.speakingMs)}</td><td>{span(one.cameraMs)}</td><td>{span(one.screenMs)}</td>
    <td>{one.visits.length}</td>
  </tr>
);

const [NAMES, WIDTH, ROW] = [150, 700, 24];

/** A bar for each visit. The table says the same in words. */
function Timeline({ summary }: { summary: Summary }) {
  const end = summary.endedAt ?? Date.now();
  const length = Math.max(1_000, end - summary.startedAt);
  const x = (at: number) => NAMES + ((WIDTH - NAMES) * Math.min(Math.max(at - summary.startedAt, 0), length)) / length;
  const height = summary.participants.length * ROW + 20;
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => summary.startedAt + part * length);
  return (
    <div class="scroll timeline" role="region" aria-label="Timeline" tabIndex={0}>
      <svg width={WIDTH} height={height} role="img" aria-label={`When each of ${summary.participants.length} people was there`}>
        {ticks.map((at, index) => (
          <g key={at}>
            <line class="rule" x1={x(at)} x2={x(at)} y1="0" y2={height - 18} />
            <text x={x(at)} y={height - 4} text-anchor={index === 0 ? 'start' : index === 4 ? 'end' : 'middle'}>{timeOfDay(at)}</text>
          </g>
        ))}
        {summary.participants.map((one, row) => (
          <g key={one.userId}>
            <text x="0" y={row * ROW + 16}>{one.userName.slice(0, 20)}</text>
            {one.visits.map((visit) => (
              <rect key={visit.joinedAt} x={x(visit.joinedAt)} y={row * ROW + 4} rx="3" height={ROW - 8} width={Math.max(2, x(visit.leftAt ?? end) - x(visit.joinedAt))}>
                <title>{`${one.userName}: ${timeOfDay(visit.joinedAt)}–${visit.leftAt ? timeOfDay(visit.leftAt) : 'now'}${visit.reason ? `, ${visit.reason}` : ''}`}</title>
              </rect>
            ))}
          </g>
        ))}
      </svg>
    </div>
  );
}
