// Meetings, the newest first.

import { useState } from 'preact/hooks';
import { get, part } from '../api';
import { span, time } from '../format';
import { Empty, Fault, Pill, Table } from '../parts';
import { usePolled } from '../poll';
import type { Meeting } from '../types';

interface Listed { meetings: Meeting[]; next: string | null }

export function Meetings() {
  const [session, setSession] = useState('');
  const query = `/v1/meetings?limit=50${session ? `&sessionId=${part(session)}` : ''}`;
  const { data, fault, again } = usePolled<Listed>(query, 0);
  const [more, setMore] = useState<{ of: string; list: Listed }>({ of: '', list: { meetings: [], next: null } });
  const older = more.of === query ? more.list : null;
  const all = [...(data?.meetings ?? []), ...(older?.meetings ?? [])];
  const next = older ? older.next : data?.next;
  const search = (event: SubmitEvent) => {
    event.preventDefault();
    setSession(String(new FormData(event.currentTarget as HTMLFormElement).get('session') ?? '').trim());
  };
  const load = async () => {
    const page = await get<Listed>(`${query}&cursor=${part(next ?? '')}`).catch(() => null);
    if (page) setMore({ of: query, list: { meetings: [...(older?.meetings ?? []), ...page.meetings], next: page.next } });
  };
  return (
    <>
      <h1>Meetings</h1>
      <form class="search" role="search" onSubmit={search}>
        <label>Session<input name="session" type="search" placeholder="all" /></label>
        <button>Show</button>
        <button type="button" onClick={again}>Refresh</button>
      </form>
      <Fault words={fault} />
      {data && all.length === 0 && <Empty>No meeting{session ? ` of “${session}”` : ''} is kept.</Empty>}
      {all.length > 0 && (
        <Table label="Meetings" heads={['Session', 'Began', 'Took', 'People', 'At once']}>
          {all.map((one) => (
            <tr key={one.meetingId}>
              <td><a href={`#/meetings/${part(one.meetingId)}`}>{one.sessionId}</a></td>
              <td>{time(one.startedAt)}</td>
              <td>{one.endedAt === null ? <Pill tone="good">is on</Pill> : span(one.endedAt - one.startedAt)}</td>
              <td>{one.totalParticipants ?? '–'}</td><td>{one.peakParticipants ?? '–'}</td>
            </tr>
          ))}
        </Table>
      )}
      {next && <p><button type="button" onClick={load}>Older</button></p>}
    </>
  );
}
