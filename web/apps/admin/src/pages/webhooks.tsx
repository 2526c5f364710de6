// Who is told of what happens, what got through, and telling it again.

import { useState } from 'preact/hooks';
import { part, post, remove } from '../api';
import { time } from '../format';
import { Card, Confirm, Empty, Fault, Pill, Table } from '../parts';
import type { Question, Tone } from '../parts';
import { usePolled } from '../poll';
import type { Delivery, Endpoint } from '../types';

/** The endpoint of the settings: it is changed there. */
const CONFIGURED = 'configured';

const TONES: Record<Delivery['state'], Tone> = { delivered: 'good', pending: 'middling', dead: 'bad' };

export function Webhooks() {
  const { data, fault, again } = usePolled<{ endpoints: Endpoint[] }>('/v1/webhooks', 0);
  const [chosen, setChosen] = useState('');
  const endpoints = data?.endpoints ?? [];
  const shown = endpoints.find((one) => one.id === chosen) ?? endpoints[0];
  const [refused, setRefused] = useState('');
  const [question, setQuestion] = useState<Question | null>(null);
  const [secret, setSecret] = useState('');
  const [said, setSaid] = useState('');
  const trying = (action: Promise<unknown>) => action.then(() => { setRefused(''); again(); }, (error: Error) => setRefused(error.message));
  const test = (one: Endpoint) => trying(post<{ status: number | null; error: string | null }>(`/v1/webhooks/${part(one.id)}/test`)
    .then(({ status, error }) => setSaid(`${one.url}: ${error ?? `it took the test event and answered ${status}.`}`)));
  const rotate = (one: Endpoint) => setQuestion({
    title: 'Make a new secret?',
    words: `It is shown once, for ${one.url}. The one of now signs too for 24 hours.`,
    yes: 'New secret',
    act: async () => setSecret((await post<{ secret: string }>(`/v1/webhooks/${part(one.id)}/rotate`)).secret),
  });
  const drop = (one: Endpoint) => setQuestion({
    title: 'Delete this endpoint?',
    words: `${one.url} is told nothing more. What waits for it is not delivered.`,
    yes: 'Delete',
    act: () => remove(`/v1/webhooks/${part(one.id)}`),
  });
  const turn = (one: Endpoint) => post(`/v1/webhooks/${part(one.id)}/${one.enabled ? 'disable' : 'enable'}`)
    .then(() => { setRefused(''); again(); }, (error: Error) => setRefused(error.message));
  return (
    <>
      <h1>Webhooks</h1>
      <Fault words={fault || refused} />
      <p role="status" class="dim">{said}</p>
      {secret && <Secret words={secret} close={() => setSecret('')} />}
      {data && endpoints.length === 0 && <Empty>There is no endpoint. Add one here, or set <code>[webhooks] url</code>.</Empty>}
      {endpoints.length > 0 && (
        <ul class="endpoints" aria-label="Endpoints">
          {endpoints.map((one) => (
            <li key={one.id} class="endpoint" data-shown={endpoints.length > 1 && one === shown}>
              <div>
                <h2><button type="button" class="plain" aria-pressed={one === shown} title="Show its deliveries" onClick={() => setChosen(one.id)}>{one.url}</button></h2>
                <p>
                  {one.enabled ? <Pill tone="good">on</Pill> : <Pill tone="bad">off{one.disabledReason ? `: ${one.disabledReason}` : ''}</Pill>}
                  <span>{one.events?.join(', ') ?? 'All events'}</span> <small>{one.id}</small>
                </p>
              </div>
              <div class="buttons">
                <button type="button" data-action="try" aria-label={`Send a test event to ${one.url}`} onClick={() => test(one)}>Test</button>
                <button type="button" aria-label={`Turn ${one.enabled ? 'off' : 'on'} ${one.url}`} onClick={() => turn(one)}>Turn {one.enabled ? 'off' : 'on'}</button>
                {one.id !== CONFIGURED && <button type="button" data-action="rotate" aria-label={`New secret for ${one.url}`} onClick={() => rotate(one)}>New secret</button>}
                {one.id !== CONFIGURED && <button type="button" class="danger" data-action="delete" aria-label={`Delete ${one.url}`} onClick={() => drop(one)}>Delete</button>}
              </div>
            </li>
          ))}
        </ul>
      )}
      {data && <Add done={(made) => { setSecret(made); setChosen(''); again(); }} />}
      {question && <Confirm question={question} close={(done) => { setQuestion(null); if (done) again(); }} />}
      {shown && <Deliveries key={shown.id} endpoint={shown} />}
    </>
  );
}

/** A secret is shown once: the server does not tell it again. */
function Secret({ words, close }: { words: string; close: () => void }) {
  return (
    <Card title="The secret, shown once" aside={<button type="button" data-action="hide-secret" onClick={close}>I have it</button>}>
      <p>The receiver verifies with it what we send. Keep it as you keep passwords.</p>
      <p><code class="secret">{words}</code></p>
    </Card>
  );
}

function Add({ done }: { done: (secret: string) => void }) {
  const [refused, setRefused] = useState('');
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const said = new FormData(form);
    const events = String(said.get('events') ?? '').split(/[\s,]+/).filter(Boolean);
    setBusy(true);
    try {
      const { secret } = await post<{ secret: string }>('/v1/webhooks', { url: String(said.get('url') ?? ''), ...(events.length && { events }) });
      setRefused('');
      form.reset();
      done(secret);
    } catch (error) {
      setRefused(error instanceof Error ? error.message : String(error));
    }
    setBusy(false);
  };
  return (
    <Card title="Add an endpoint">
      <form class="add" onSubmit={submit}>
        <label>URL <input name="url" type="url" required placeholder="https://school.example/hooks/lyceum" autocomplete="off" /></label>
        <label>Events <input name="events" placeholder="all, or such as: session.ended participant.joined" autocomplete="off" /></label>
        <button type="submit" data-action="add" disabled={busy}>Add</button>
      </form>
      <Fault words={refused} />
    </Card>
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
    <Card title={`Deliveries to ${endpoint.url}`} aside={(
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
        <Table label="Deliveries" heads={['Event', 'Session', 'State', 'Answer', '']}>
          {list.map((one) => (
            <tr key={one.eventId}>
              <td>{one.type} <small>{one.eventId}</small></td>
              <td>{one.sessionId} <small>#{one.roomSeq}</small></td>
              <td>
                <Pill tone={TONES[one.state]}>{one.state}</Pill>
                <small>{one.attempts === 1 ? 'one try' : `${one.attempts} tries`} since {time(one.createdAt)}{one.nextAt ? `, next ${time(one.nextAt)}` : ''}</small>
              </td>
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
