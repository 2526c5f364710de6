// Roster and chat.

import { useEffect, useRef, useState } from 'preact/hooks';
import { Icon } from './icons';
import { MESSAGE_BYTES_MAX, messages, ownId, panel, participants, say, tell, userId } from './state';
import { initials } from './tile';

function Head({ title }: { title: string }) {
  return (
    <header>
      <h2>{title}</h2>
      <button class="plain" aria-label={`Close ${title.toLowerCase()}`} onClick={() => { panel.value = 'none'; }}><Icon name="close" /></button>
    </header>
  );
}

export function PeoplePanel() {
  return (
    <aside class="panel people" aria-label="People">
      <Head title={`People (${participants.value.length})`} />
      <ul>
        {participants.value.map((who) => {
          const heard = who.tracks.some((track) => track.source === 'microphone' && !track.muted);
          return (
            <li key={who.participantId}>
              <span class="small-initials" aria-hidden="true">{initials(who.userName)}</span>
              <span class="grow">
                {who.userName}{who.participantId === ownId.value ? ' (you)' : ''}
                {who.isInstructor && <small> · instructor</small>}
                {who.state === 'reconnecting' && <small> · reconnecting…</small>}
              </span>
              {who.handRaised && <span role="img" aria-label="Hand raised"><Icon name="hand" /></span>}
              <span class={heard ? '' : 'muted'} title={heard ? 'Microphone on' : 'Microphone off'}><Icon name={heard ? 'mic' : 'micOff'} /></span>
            </li>
          );
        })}
      </ul>
    </aside>
  );
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });

export function ChatPanel() {
  const [draft, setDraft] = useState('');
  const list = useRef<HTMLOListElement>(null);
  const input = useRef<HTMLInputElement>(null);
  const count = messages.value.length;
  useEffect(() => input.current?.focus(), []);
  useEffect(() => { list.current?.lastElementChild?.scrollIntoView({ block: 'end' }); }, [count]);
  const submit = (event: Event): void => {
    event.preventDefault();
    const text = draft.trim();
    if (!text) return;
    if (new TextEncoder().encode(text).length > MESSAGE_BYTES_MAX) return tell('That message is too long.');
    setDraft('');
    void say(text);
  };
  return (
    <aside class="panel chat" aria-label="Chat">
      <Head title="Chat" />
      <ol ref={list} aria-live="polite">
        {count === 0 && <li class="dim">No messages yet. Everyone in the call sees what you write.</li>}
        {messages.value.map((one) => (
          <li key={one.id} class={one.userId === userId ? 'own' : ''}>
            <small><b>{one.userName}</b> {clock.format(one.timestamp)}</small>
            <p>{one.message}</p>
          </li>
        ))}
      </ol>
      <form onSubmit={submit}>
        <input ref={input} name="message" aria-label="Message" placeholder="Write to everyone" autocomplete="off" value={draft}
          onInput={(event) => setDraft(event.currentTarget.value)} />
        <button class="round small" aria-label="Send" type="submit"><Icon name="send" /></button>
      </form>
    </aside>
  );
}
