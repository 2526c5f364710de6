// The sessions that are live.

import { part } from '../api';
import { span, time } from '../format';
import { Empty, Fault, Pill, Table } from '../parts';
import { usePolled } from '../poll';
import type { Session } from '../types';

export function Rooms() {
  const { data, fault } = usePolled<{ sessions: Session[] }>('/v1/sessions', 3_000);
  return (
    <>
      <h1>Rooms</h1>
      <Fault words={fault} />
      {data?.sessions.length === 0 && <Empty>Nobody is in a call now. Rooms come here when somebody joins.</Empty>}
      {data && data.sessions.length > 0 && (
        <Table label="Live rooms" heads={['Session', 'People', 'Waiting', 'Tracks', 'Since', 'State']}>
          {data.sessions.map((one) => (
            <tr key={one.sessionId}>
              <td><a href={`#/rooms/${part(one.sessionId)}`}>{one.sessionId}</a></td>
              <td>{one.participants.length} of {one.capacity}</td>
              <td>{one.waiting.length || '–'}</td>
              <td>{one.participants.reduce((sum, person) => sum + person.tracks.length, 0)}</td>
              <td><time dateTime={new Date(one.startedAt).toISOString()} title={time(one.startedAt)}>{span(Date.now() - one.startedAt)}</time></td>
              <td>{one.locked ? <Pill tone="middling">locked</Pill> : <Pill tone="good">open</Pill>}</td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}
