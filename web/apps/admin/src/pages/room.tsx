// One live session: who is there, how their media flows, and what a moderator may do.

import { useRef, useState } from 'preact/hooks';
import { part, post } from '../api';
import { bits, ms, percent, share, span } from '../format';
import { Confirm, Empty, Fault, Pill, Table } from '../parts';
import type { Question, Tone } from '../parts';
import { usePolled } from '../poll';
import type { Flow, Layer, Media, Participant, PeerMedia, Session, Subscription, TrackMedia } from '../types';

const EVERY_MS = 2_000;
const QUALITY: [string, Tone][] = [['lost', 'bad'], ['bad', 'bad'], ['poor', 'middling'], ['fair', 'middling'], ['good', 'good']];

export function Room({ session }: { session: string }) {
  const base = `/v1/sessions/${part(session)}`;
  const room = usePolled<Session>(base, EVERY_MS);
  const media = usePolled<Media>(room.data ? `/v1/admin/sessions/${part(session)}/media` : null, EVERY_MS);
  const [open, setOpen] = useState('');
  const [question, setQuestion] = useState<Question | null>(null);
  const people = room.data?.participants ?? [];
  const flows = new Map(media.data?.participants.map((one) => [one.participantId, one]));
  const close = (done: boolean) => {
    setQuestion(null);
    if (done) room.again();
  };
  const ask = (person: Participant, action: 'mute' | 'remove') => setQuestion({
    title: `${action === 'mute' ? 'Mute' : 'Remove'} ${person.userName}?`,
    words: action === 'mute'
      ? 'Their microphone and camera are silenced for all. They may turn them on again themselves.'
      : 'They leave the call at once and cannot come back to this meeting, whatever token they bring.',
    yes: action === 'mute' ? 'Mute' : 'Remove',
    act: () => post(`${base}/participants/${part(person.participantId)}/${action}`),
  });
  const end = () => setQuestion({
    title: 'End the call for all?',
    words: `${people.length === 1 ? 'One person leaves' : `All ${people.length} people leave`} “${session}” at once, and the meeting is over.`,
    yes: 'End for all',
    act: () => post(`${base}/end`),
  });
  return (
    <>
      <p class="crumbs"><a href="#/rooms">Rooms</a></p>
      <header class="head">
        <h1>{session}</h1>
        {room.data && !room.code && <button type="button" class="danger" data-action="end" onClick={end}>End for all</button>}
      </header>
      {room.code === 'session/not_live' ? <Empty>This call is over. <a href="#/meetings">Meetings</a> keeps who was there.</Empty> : (
        <>
          <Fault words={room.fault || media.fault} />
          {room.data && <p class="dim">{span(Date.now() - room.data.startedAt)} so far, {people.length} of {room.data.capacity} people{room.data.locked ? ', locked' : ''}.
            {media.data?.truncated && ' Media is shown of the first 500.'}</p>}
          {people.length > 0 && (
            <Table label="Participants" heads={['Name', 'Way', 'To us', 'From us', 'Connection', '']}>
              {people.map((person) => (
                <Person key={person.participantId} person={person} flow={flows.get(person.participantId)} ask={ask} session={session}
                  isOpen={open === person.participantId} toggle={() => setOpen(open === person.participantId ? '' : person.participantId)} names={people} />
              ))}
            </Table>
          )}
        </>
      )}
      {question && <Confirm question={question} close={close} />}
    </>
  );
}

interface PersonProps {
  person: Participant;
  flow: PeerMedia | undefined;
  session: string;
  names: Participant[];
  isOpen: boolean;
  toggle: () => void;
  ask: (person: Participant, action: 'mute' | 'remove') => void;
}

function Person({ person, flow, session, names, isOpen, toggle, ask }: PersonProps) {
  const [word, tone] = QUALITY[flow?.score ?? 4] ?? ['good', 'good'];
  const live = flow?.connected;
  return (
    <>
      <tr data-participant={person.participantId}>
        <td>
          <button type="button" class="plain disclosure" aria-expanded={isOpen} onClick={toggle}>{person.userName || person.userId}</button>
          {person.state === 'reconnecting' && <Pill tone="middling">reconnecting</Pill>} {person.handRaised && <Pill tone="plain">hand up</Pill>}
          <small>{person.role}</small>
        </td>
        <td>{flow?.path ?? (flow ? 'no media yet' : '–')} {live && <small title="Round trip">{ms(flow.rttMs)}</small>}</td>
        <Rate flow={live ? flow.up : null} />
        <Rate flow={live ? flow.down : null} />
        <td>{live ? <Pill tone={tone}>{word}{flow.cause ? `: ${flow.cause}` : ''}</Pill> : '–'}</td>
        <td class="actions">
          <button type="button" data-action="mute" aria-label={`Mute ${person.userName}`} onClick={() => ask(person, 'mute')}>Mute</button>
          <button type="button" data-action="remove" aria-label={`Remove ${person.userName}`} onClick={() => ask(person, 'remove')}>Remove</button>
        </td>
      </tr>
      {isOpen && <tr class="detail"><td colSpan={6}><Details session={session} person={person} names={names} /></td></tr>}
    </>
  );
}

const Rate = ({ flow }: { flow: Flow | null }) => <td>{flow ? <>{bits(flow.bps)} <small>{percent(flow.loss)} lost</small></> : '–'}</td>;

function Details({ session, person, names }: { session: string; person: Participant; names: Participant[] }) {
  const path = `/v1/admin/sessions/${part(session)}/media?participantId=${part(person.participantId)}`;
  const { data, fault } = usePolled<Media>(path, EVERY_MS);
  const rates = useRates(data);
  const one = data?.participants[0];
  if (!one) return <Fault words={fault || (data ? 'No media: they only signal, or left.' : '')} />;
  const nameOf = (id: string) => names.find((other) => other.participantId === id)?.userName ?? id;
  return (
    <div class="details">
      <Fault words={fault} />
      <h2>Publishes</h2>
      {one.tracks.length === 0 && <Empty>Nothing.</Empty>}
      {one.tracks.length > 0 && (
        <Table label={`What ${person.userName} publishes`} heads={['Track', 'Codec', 'Layer', 'Rate', 'Lost', 'Jitter', 'Gets it']}>
          {one.tracks.flatMap((track) => track.layers.map((layer, at) => <LayerRow key={`${track.trackId}${layer.rid}`} track={track} layer={layer} isFirst={at === 0} />))}
        </Table>
      )}
      <h2>Gets</h2>
      {one.subscriptions.length === 0 && <Empty>Nothing.</Empty>}
      {one.subscriptions.length > 0 && (
        <Table label={`What ${person.userName} gets`} heads={['From', 'Track', 'Layer', 'Rate', 'Lost']}>
          {one.subscriptions.map((each) => (
            <tr key={each.trackId + each.participantId}>
              <td>{nameOf(each.participantId)}</td><td>{each.source}</td><td>{level(each)}</td>
              <td>{bits(rates.get(each.trackId) ?? 0)}</td><td>{share(each.lost, each.packets)}</td>
            </tr>
          ))}
        </Table>
      )}
      {one.estimateBps !== null && <p class="dim">The way to them is believed to carry {bits(one.estimateBps)}.</p>}
    </div>
  );
}

function level(each: Subscription): string {
  if (each.paused) return each.paused === 'bandwidth' ? 'paused: the line is too narrow' : 'paused: not wanted';
  if (each.spatial === null) return 'waits for a keyframe';
  return [each.rid, each.spatial ? `S${each.spatial}` : '', each.temporal ? `T${each.temporal}` : ''].filter(Boolean).join(' ') || 'whole';
}

function LayerRow({ track, layer, isFirst }: { track: TrackMedia; layer: Layer; isFirst: boolean }) {
  const size = layer.width ? ` ${layer.width}×${layer.height}` : '';
  return (
    <tr>
      <td>{isFirst ? track.source : ''} {isFirst && track.muted && <Pill tone="plain">muted</Pill>} {isFirst && track.held && <Pill tone="middling">silenced</Pill>}</td>
      <td>{isFirst ? track.codec : ''}</td>
      <td>{layer.rid ?? 'one'}{size}{layer.active ? '' : ' (off)'}</td>
      <td>{bits(layer.bps)}</td>
      <td>{share(layer.lost, layer.packets + layer.lost)}</td>
      <td>{ms(layer.jitterMs)}</td>
      <td>{isFirst ? track.subscribers : ''}{layer.watched || !layer.rid ? '' : ' (nobody watches)'}</td>
    </tr>
  );
}

/** Bits a second of each subscription between the last two looks; counters of 32 bits wrap. */
function useRates(data: Media | null): Map<string, number> {
  const last = useRef<{ data: Media | null; at: number; bytes: Map<string, number>; rates: Map<string, number> }>({ data: null, at: 0, bytes: new Map(), rates: new Map() });
  if (data && data !== last.current.data) {
    const at = performance.now();
    const { bytes: before, at: then } = last.current;
    const bytes = new Map(data.participants.flatMap((one) => one.subscriptions.map((each) => [each.trackId, each.bytes] as const)));
    const rates = new Map([...bytes].map(([id, now]) => {
      const was = before.get(id);
      return [id, was === undefined ? 0 : (((now - was) >>> 0) * 8_000) / (at - then)] as const;
    }));
    last.current = { data, at, bytes, rates };
  }
  return last.current.rates;
}
