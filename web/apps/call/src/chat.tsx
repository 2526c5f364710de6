import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { wordsFor } from '@lyceum/client';
import { useChat, useStore } from '@lyceum/react';
import { MESSAGE_BYTES_MAX } from './conduct';
import { Icon } from './icons';
import { linked } from './links';
import { page, tell, userId } from './page';
import { Side } from './panel';
import { words } from './strings';

const say = words.chat;
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });

/** Messages of one person within this time stand under one name. */
const TOGETHER_MS = 120_000;
/** So near to the end one is reading the latest. */
const NEAR_END_PX = 40;

export function ChatPanel() {
  return <Side of="chat" title={say.title}><Messages /><Write /></Side>;
}

/** Follows what is written while one is at its end; who reads further up is not torn away. */
function Messages() {
  const { messages } = useChat();
  const list = useRef<HTMLOListElement>(null);
  const [atEnd, setAtEnd] = useState(true);
  const seen = useRef(messages.length);
  const last = messages.at(-1);
  const own = last?.userId === userId;
  const toEnd = (): void => list.current?.scrollTo({ top: list.current.scrollHeight });
  useLayoutEffect(() => { if (atEnd || own) toEnd(); }, [last?.id]);
  if (atEnd) seen.current = messages.length;
  const look = (): void => {
    const { scrollHeight = 0, scrollTop = 0, clientHeight = 0 } = list.current ?? {};
    setAtEnd(scrollHeight - scrollTop - clientHeight < NEAR_END_PX);
  };
  return (
    <div class="messages">
      <ol ref={list} aria-live="polite" tabIndex={0} aria-label={say.title} onScroll={look}>
        {messages.length === 0 && <li class="dim">{say.empty}</li>}
        {messages.map((one, at) => {
          const before = messages[at - 1];
          const goesOn = before?.userId === one.userId && one.timestamp - before.timestamp < TOGETHER_MS;
          return (
            <li key={one.id} class={`${one.userId === userId ? 'own' : ''} ${goesOn ? 'goes-on' : ''}`}>
              <small class={goesOn ? 'spoken' : ''}><b>{one.userName}</b> {clock.format(one.timestamp)}</small>
              <p>{linked(one.message)}</p>
            </li>
          );
        })}
      </ol>
      {!atEnd && <button class="latest" onClick={toEnd}><Icon name="down" />{say.latest(messages.length - seen.current)}</button>}
    </div>
  );
}

function Write() {
  const { say: send } = useChat();
  const draft = useStore(page, (state) => state.draft);
  const input = useRef<HTMLTextAreaElement>(null);
  useEffect(() => input.current?.focus(), []);
  useLayoutEffect(() => {
    if (!input.current) return;
    input.current.style.height = 'auto';
    input.current.style.height = `${input.current.scrollHeight + 2}px`; // its border
  }, [draft]);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    const text = draft.trim();
    if (!text) return;
    if (new TextEncoder().encode(text).length > MESSAGE_BYTES_MAX) return tell(say.tooLong);
    page.set({ draft: '' });
    const code = await send(text);
    if (!code) return;
    tell(wordsFor(code));
    if (!page.state.draft) page.set({ draft: text }); // nothing that was written is lost
  };
  return (
    <form onSubmit={submit}>
      <textarea ref={input} name="message" rows={1} aria-label={say.message} placeholder={say.placeholder} autocomplete="off" enterkeyhint="send" value={draft}
        onInput={(event) => page.set({ draft: event.currentTarget.value })}
        onKeyDown={(event) => { if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) void submit(event); }} />
      <button class="round small" aria-label={say.send} title={say.send} type="submit"><Icon name="send" /></button>
    </form>
  );
}
