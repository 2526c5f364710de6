// Who is told of what happens, what got through, and telling it again.

import { useState } from 'preact/hooks';
import { part, post } from '../api';
import { time } from '../format';
import { Card, Confirm, Empty, Fault, Pill, Table } from '../parts';
import type { Question, Tone } from '../parts';
import { usePolled } from '../poll';
import type { Delivery, Endpoint } from '../types';

const TONES: Record<Delivery['state'], Tone> = { delivered: 'good', pending: 'middling', dead: 'bad' };

export function Webhooks() {
  const { data, fault, again } = usePolled<{ endpoints: Endpoint[] }>('/v1/webhooks', 0);
  const [chosen, setChosen] = useState('');
  const endpoints = data?.endpoints ?? [];
  const shown = endpoints.find((one) => one.id === chosen) ?? endpoints[0];
  const [refused, setRefused] = useState('');
  const turn = (one: Endpoint) => post(`/v1/webhooks/${part(one.id)}/${one.enabled ? 'disable' : 'enable'}`)
    .then(() => { setRefused(''); again(); }, (error: Error) => setRefused(error.message));
  return (
    <>
      <h1>Webhooks</h1>
      <Fault words={fault || refused} />
      {data && endpoints.length === 0 && <Empty>There is no endpoint. Set <code>[webhooks] url</code>, or add one with <code>POST /v1/webhooks</code>.</Empty>}
      {endpoints.length > 0 && (
        <Table label="Endpoints" heads={['Endpoint', 'Events', 'State', '']}>
          {endpoints.map((one) => (
            <tr key={one.id}>
              <td><button type="button" class="plain" aria-pressed={one === shown} onClick={() => setChosen(one.id)}>{one.url}</button> <small>{one.id}</small></td>
              <td>{one.events?.join(', ') ?? 'all'}</td>
              <td>{one.enabled ? <Pill tone="good">on</Pill> : <Pill tone="bad">off{one.disabledReason ? `: ${one.disabledReason}` : ''}</Pill>}</td>
              <td class="actions"><button type="button" aria-label={`Turn ${one.enabled ? 'off' : 'on'} ${one.url}`} onClick={() => turn(one)}>Turn {one.enabled ? 'off' : 'on'}</button></td>
            </tr>
          ))}
        </Table>
      )}
      {shown && <Deliveries key={shown.id} endpoint={shown} />}
    </>
  );
}

function Deliveries({ endpoint }: { endpoint: Endpoint }) {
  const [state, setState] = useState('');
  const base = `/v1/webhooks/${part(endpoint.id)}`;
  const { data, fault, again } = usePolled<{ deliveries: Delivery[] }>(`${base}/deliveries?limit=100${state ? `&state=${state}` : ''}`, 5_000);
  const [question, setQuestion] = useState<Question | null>(null);
  const [said, setSaid] = useState('');
  const replay = (session: string) => setQuestion({
    title: session ? `Tell of “${session}” again?` : 'Tell everything again?',
    words: 'Every event that is kept is sent again, dead ones too, with the ids it had: a receiver knows what it has had.',
    yes: 'Send again',
    act: async () => {
      const { events, more } = await post<{ events: number; more: boolean }>(`${base}/replay${session ? `?sessionId=${part(session)}` : ''}`);
      setSaid(`${events} events are on their way${more ? '; there are more: replay again' : ''}.`);
    },
  });
  const list = data?.deliveries ?? [];
  return (
    <Card title="Deliveries" aside={(
      <div class="buttons">
        <label class="inline">State
          <select value={state} onChange={(event) => setState(event.currentTarget.value)}>
            <option value="">all</option><option value="dead">dead</option><option value="pending">pending</option><option value="delivered">delivered</option>
          </select>
        </label>
        <button type="button" data-action="replay" onClick={() => replay('')}>Replay all</button>
      </div>
    )}>
      <Fault words={fault} />
      <p role="status" class="dim">{said}</p>
      {data && list.length === 0 && <Empty>{state ? `None is ${state}.` : 'Nothing was told yet.'}</Empty>}
      {list.length > 0 && (
        <Table label="Deliveries" heads={['Event', 'Session', 'State', 'Tries', 'Since', 'Answer', '']}>
          {list.map((one) => (
            <tr key={one.eventId}>
              <td>{one.type} <small>{one.eventId}</small></td>
              <td>{one.sessionId} <small>#{one.roomSeq}</small></td>
              <td><Pill tone={TONES[one.state]}>{one.state}</Pill>{one.nextAt ? ` next ${time(one.nextAt)}` : ''}</td>
              <td>{one.attempts}</td><td>{time(one.createdAt)}</td>
              <td class="long">{[one.lastStatus, one.lastError].filter(Boolean).join(' ') || '–'}</td>
              <td class="actions"><button type="button" aria-label={`Replay session ${one.sessionId}`} onClick={() => replay(one.sessionId)}>Replay session</button></td>
            </tr>
          ))}
        </Table>
      )}
      {question && <Confirm question={question} close={(done) => { setQuestion(null); if (done) again(); }} />}
    </Card>
  );
}
