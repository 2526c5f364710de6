import { options, render } from 'preact';
import { useEffect } from 'preact/hooks';
import { createLocalMedia, createRoom } from '@lyceum/client';
import { useStore } from '@lyceum/react';
import { Call } from './call';
import { begin, type Makers } from './conduct';
import { Asked } from './dialogs';
import { lazy } from './lazy';
import { Lobby } from './lobby';
import { page } from './page';
import { words } from './strings';
import './style.css';
import './room.css';
import './panels.css';

const Help = lazy(() => import('./help'));
const Attendance = lazy(() => import('./attendance'));

/** Each part looks at no more than it shows: what is written in the chat does not make the tiles anew. */
function App() {
  const view = useStore(page, (state) => state.view);
  const room = useStore(page, (state) => state.room);
  const sessionId = useStore(page, (state) => state.sessionId);
  const inCall = view === 'call' && room !== null;
  useEffect(() => {
    document.title = inCall ? words.titleOf(sessionId) : words.product;
    document.body.classList.toggle('in-call', inCall);
  }, [inCall, sessionId]);
  return (
    <>
      {inCall ? <Call room={room} /> : <Lobby key={view} />}
      <Asked />
      <Above />
    </>
  );
}

function Above() {
  const { unlockSound, announced, notice, dialog } = useStore(page, (state) => state);
  return (
    <>
      {unlockSound && <button class="unlock primary" onClick={unlockSound}>{words.call.unlockSound}</button>}
      {dialog === 'help' && <Help />}
      {dialog === 'attendance' && <Attendance />}
      <div class="spoken" aria-live="polite">{announced}</div>
      <div class="notice" role="status" data-empty={!notice}>
        {notice?.text}
        {notice?.button && <button class="small" onClick={notice.button.press}>{notice.button.label}</button>}
      </div>
    </>
  );
}

async function makers(): Promise<Makers> {
  // While the page is made, all of its states can be looked at without a server: `npm run dev`, then `/?fake=8`.
  if (import.meta.env.DEV && new URLSearchParams(location.search).has('fake')) return (await import('./dev/fake')).makers();
  return { media: createLocalMedia(), createRoom };
}

/** Ms that negotiation has to itself when one is let in: a whole page of tiles drawn in between would hold it up. */
const HEAD_START_MS = 50;
options.debounceRendering = (draw) => {
  if (page.state.room?.state.status === 'connecting') setTimeout(draw, HEAD_START_MS);
  else queueMicrotask(draw); // what one types must not be overtaken by the next key
};

const root = document.getElementById('app');
if (!root) throw new Error('index.html has an #app');
begin(await makers());
root.replaceChildren();
render(<App />, root);
