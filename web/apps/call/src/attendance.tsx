// Who was there, when and for how long: a picture, a table and a file; loaded when it is asked for.

import { useEffect, useState } from 'preact/hooks';
import type { Attendee, Summary } from '@lyceum/client/attendance';
import { useStore } from '@lyceum/react';
import { Dialog } from './dialogs';
import { page } from './page';
import { words } from './strings';
import { joinToken } from './token';
import './attendance.css';

const say = words.attendance;

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium' });
const minutes = (ms: number): string => (ms / 60_000).toFixed(ms < 600_000 ? 1 : 0);

const ASK_MS = 15_000;
const REFRESH_MS = 30_000;

/** Words instead of an answer. */
class Told extends Error {}

async function ask(meeting: string, ending: string): Promise<Response> {
  const answer = await fetch(`v1/meetings/${encodeURIComponent(meeting)}/attendance${ending}`, {
    headers: { authorization: `Bearer ${joinToken()}` }, signal: AbortSignal.timeout(ASK_MS), cache: 'no-store',
  }).catch(() => { throw new Told(say.unreachable); });
  if (answer.ok) return answer;
  throw new Told(answer.status === 404 ? say.pending : answer.status === 401 || answer.status === 403 ? say.denied : say.unreachable);
}

async function download(meeting: string): Promise<void> {
  const url = URL.createObjectURL(await (await ask(meeting, '.csv')).blob());
  Object.assign(document.createElement('a'), { href: url, download: `attendance-${meeting}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(url), ASK_MS);
}

export default function Attendance() {
  const meeting = useStore(page, (state) => state.attended);
  const [summary, setSummary] = useState<Summary | null>(null);
  const [trouble, setTrouble] = useState('');
  const [now, setNow] = useState(Date.now());
  const trying = async (action: () => Promise<void>): Promise<void> => {
    const [trouble] = await action().then(() => [''], (error: unknown) => [error instanceof Told ? error.message : say.unreachable]);
    setTrouble(trouble ?? '');
    setNow(Date.now());
  };
  const look = (): Promise<void> => trying(async () => setSummary(await (await ask(meeting, '')).json() as Summary));
  useEffect(() => {
    void look();
    const timer = setInterval(() => void look(), REFRESH_MS);
    return () => clearInterval(timer);
  }, [meeting]);
  return (
    <Dialog title={say.title} className="attendance" close={() => page.set({ dialog: 'none' })}>
      {!summary && <p class="dim" role="status">{trouble || say.loading}</p>}
      {summary && trouble && <p class="warning" role="status">{trouble}</p>}
      {summary && <Shown summary={summary} now={now} />}
      <div class="answers">
        <button data-action="refresh" onClick={() => void look()}>{say.refresh}</button>
        <button class="primary" data-action="csv" disabled={!summary} onClick={() => void trying(() => download(meeting))}>{say.csv}</button>
      </div>
    </Dialog>
  );
}

function Shown({ summary, now }: { summary: Summary; now: number }) {
  const { participants, startedAt, endedAt, sessionId } = summary;
  const end = Math.max(endedAt ?? now, startedAt + 1);
  return (
    <>
      <p>
        <b>{sessionId}</b>, {day.format(startedAt)} {clock.format(startedAt)}–{endedAt ? clock.format(endedAt) : '…'}: {say.summary(participants.length, minutes(end - startedAt))}
        <small>{endedAt ? say.over : say.live}</small>
      </p>
      <Timeline people={participants} start={startedAt} end={end} />
      <div class="table" tabIndex={0} role="region" aria-label={say.title}>
        <table>
          <thead><tr><th scope="col">{say.who}</th><th scope="col">{say.joined}</th><th scope="col">{say.left}</th><th scope="col">{say.minutes}</th><th scope="col">{say.speaking}</th></tr></thead>
          <tbody>
            {participants.map((one) => (
              <tr key={one.userId} data-attendee={one.userId}>
                <th scope="row">{one.userName}{one.role === 'instructor' && <small>{words.people.instructor}</small>}</th>
                <td>{clock.format(one.firstJoinAt)}</td>
                <td>{one.lastLeaveAt ? clock.format(one.lastLeaveAt) : say.here}</td>
                <td>{minutes(one.connectedMs)}</td>
                <td>{minutes(one.speakingMs)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="dim">{say.speakingHint}</p>
    </>
  );
}

const [NAMES, WIDTH, ROW, AXIS] = [150, 720, 24, 22];
/** Marks on the axis: at most so many, a round number of minutes apart. */
const MARKS_MAX = 8;
const STEPS_MIN = [1, 2, 5, 10, 15, 30, 60, 120, 240];

/** A bar for each visit of each person. The table says the same; this is for the eye. */
function Timeline({ people, start, end }: { people: readonly Attendee[]; start: number; end: number }) {
  const x = (at: number): number => NAMES + ((WIDTH - NAMES) * (Math.min(Math.max(at, start), end) - start)) / (end - start);
  const step = 60_000 * (STEPS_MIN.find((one) => (end - start) / (one * 60_000) <= MARKS_MAX) ?? 480);
  const marks: number[] = [];
  for (let at = Math.ceil(start / step) * step; at <= end; at += step) marks.push(at);
  const height = AXIS + people.length * ROW;
  return (
    <div class="wide" tabIndex={0} role="group" aria-label={say.timeline}>
      <svg class="timeline" viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-label={say.timelineOf(people.length, clock.format(start), clock.format(end))}>
        {marks.map((at) => (
          <g key={at}>
            <line x1={x(at)} x2={x(at)} y1={AXIS - 4} y2={height} />
            <text class="time" x={x(at)} y={AXIS - 8} text-anchor={x(at) > WIDTH - 30 ? 'end' : 'middle'}>{clock.format(at)}</text>
          </g>
        ))}
        {people.map((one, row) => (
          <g key={one.userId}>
            <text x={0} y={AXIS + row * ROW + 16}>{one.userName.length > 20 ? `${one.userName.slice(0, 19)}…` : one.userName}</text>
            {one.visits.map(({ joinedAt, leftAt }) => (
              <rect key={joinedAt} class={one.role} x={x(joinedAt)} y={AXIS + row * ROW + 4} rx={3} height={ROW - 8} width={Math.max(2, x(leftAt ?? end) - x(joinedAt))} />
            ))}
          </g>
        ))}
      </svg>
    </div>
  );
}
