// How the connection does, in numbers; loaded when it is asked for.

import { useEffect, useState } from 'preact/hooks';
import type { CallStats, TrackStats } from '@lyceum/client';
import { useParticipants, useRoom } from '@lyceum/react';
import { copy } from './copy';
import { Side } from './panel';
import { words } from './strings';
import './stats.css';

const say = words.stats;
const LOOK_MS = 1_000;

const numbers = (one: TrackStats): string => [
  `${Math.round(one.kbps)} kbit/s`,
  one.width && one.height ? `${one.width}×${one.height}` : '',
  one.fps !== undefined ? `${Math.round(one.fps)} fps` : '',
  `${(one.loss * 100).toFixed(1)} % lost`,
  one.codec ?? '',
].filter(Boolean).join(' · ');

export default function StatsPanel() {
  const room = useRoom();
  const people = useParticipants();
  const [stats, setStats] = useState<CallStats | null>(null);
  useEffect(() => {
    let shown = true;
    const look = (): void => void room.stats().then((now) => { if (shown) setStats(now); }, () => {});
    look();
    const timer = setInterval(look, LOOK_MS);
    return () => {
      shown = false;
      clearInterval(timer);
    };
  }, [room]);
  const nameOf = (id: string): string => people.find((one) => one.participantId === id)?.userName ?? id;
  const of = (direction: 'in' | 'out'): [string, TrackStats][] => (stats?.tracks ?? []).filter((one) => one.direction === direction)
    .map((one) => [direction === 'out' ? say.sources[one.source] : `${nameOf(one.participantId)}, ${say.sources[one.source]}`, one]);
  const head = stats ? [[say.rtt, `${Math.round(stats.rttMs)} ms`], [say.path, stats.path || say.direct]] : [];
  const asText = (): string => [
    `${words.product} ${new Date().toISOString()}`, navigator.userAgent, `meeting ${room.state.meetingId}, participant ${room.state.ownId}`,
    ...head.map(([name, value]) => `${name}: ${value}`),
    ...(['out', 'in'] as const).flatMap((direction) => [`${say[direction]}:`, ...of(direction).map(([name, one]) => `  ${name} (${one.trackId}): ${numbers(one)}`)]),
  ].join('\n');
  return (
    <Side of="stats" title={say.title}>
      <div class="scroll">
        {!stats && <p class="dim">{say.empty}</p>}
        <dl>{head.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
        {stats && (['out', 'in'] as const).map((direction) => (
          <section key={direction}>
            <h3>{say[direction]}</h3>
            <ul>
              {of(direction).map(([name, one]) => <li key={`${one.trackId}${direction}`}><b>{name}</b><small>{numbers(one)}</small></li>)}
              {!of(direction).length && <li class="dim">{say.nothing}</li>}
            </ul>
          </section>
        ))}
        {stats && <button class="small" data-action="copy-stats" onClick={() => void copy(asText())}>{say.copy}</button>}
      </div>
    </Side>
  );
}
