// Roster and chat.

import { useEffect, useRef, useState } from 'preact/hooks';
import { Icon } from './icons';
import { Pickers } from './pickers';
import {
  MESSAGE_BYTES_MAX, type Panel, messages, ownId, participants, say, setShortcuts, shortcuts, tell, togglePanel, userId,
} from './state';
import { RelayMark, initials } from './tile';

function Head({ title, of }: { title: string; of: Panel }) {
  return (
    <header>
      <h2>{title}</h2>
      <button class="plain" aria-label={`Close ${of}`} onClick={() => togglePanel(of)}><Icon name="close" /></button>
    </header>
  );
}

export function PeoplePanel() {
  return (
    <aside class="panel people" aria-label="People">
      <Head title={`People (${participants.value.length})`} of="people" />
      <ul>
        {participants.value.map((who) => {
          const heard = who.tracks.some((track) => track.source === 'microphone' && !track.muted);
          return (
            <li key={who.participantId}>
              <span class="small-initials" aria-hidden="true">{initials(who.userName)}</span>
              <span class="grow">
                {who.userName}{who.participantId === ownId.value ? ' (you)' : ''}
                {who.isInstructor && <small>Instructor</small>}
                {who.participantId === ownId.value && <RelayMark />}
                {who.state === 'reconnecting' && <small>Reconnecting…</small>}
              </span>
              {who.handRaised && <span role="img" aria-label="Hand raised"><Icon name="hand" /></span>}
              <span class={heard ? '' : 'muted'} role="img" aria-label={heard ? 'Microphone on' : 'Microphone off'}><Icon name={heard ? 'mic' : 'micOff'} /></span>
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
      <Head title="Chat" of="chat" />
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

export function SettingsPanel() {
  return (
    <aside class="panel settings" aria-label="Settings">
      <Head title="Settings" of="settings" />
      <div class="choices">
        <Pickers />
        <label class="check">
          <input type="checkbox" name="shortcuts" checked={shortcuts.value} onChange={(event) => setShortcuts(event.currentTarget.checked)} />
          <span>Keyboard shortcuts<small>M microphone, V camera, C chat, P people</small></span>
        </label>
      </div>
    </aside>
  );
}
