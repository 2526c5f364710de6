// The call: tiles, the bar below them and the panels beside them.

import { useEffect, useRef, useState } from 'preact/hooks';
import { wordsFor, type Room } from '@lyceum/client';
import { RoomAudio, RoomProvider, useLocalMedia, useRoomState, useStore } from '@lyceum/react';
import { Bar } from './bar';
import { ChatPanel } from './chat';
import { leave, media, toggleMicrophone, toggleScreen } from './conduct';
import { Icon } from './icons';
import { listenForKeys } from './keys';
import { lazy } from './lazy';
import { page, tell, toggleAudioOnly } from './page';
import { SettingsPanel } from './settings';
import { Stage } from './stage';
import { words, wordsOf } from './strings';
import { wakeLock } from './wake';

const say = words.call;
const PeoplePanel = lazy(() => import('./people'));
const StatsPanel = lazy(() => import('./stats'));

export function Call({ room }: { room: Room }) {
  const main = useRef<HTMLElement>(null);
  const panel = useStore(page, (state) => state.panel);
  const sessionId = useStore(page, (state) => state.sessionId);
  useEffect(() => {
    main.current?.focus(); // the button that brought us here is gone
    wakeLock(true);
    return listenForKeys();
  }, []);
  return (
    <RoomProvider room={room} media={media}>
      <main ref={main} tabIndex={-1} aria-label={say.label(sessionId)} class={`room ${panel === 'none' ? '' : 'with-panel'}`}>
        <Strips />
        <Stage />
        {panel === 'people' && <PeoplePanel />}
        {panel === 'chat' && <ChatPanel />}
        {panel === 'settings' && <SettingsPanel />}
        {panel === 'stats' && <StatsPanel />}
        <Bar />
        <RoomAudio onBlocked={(unlockSound) => page.set({ unlockSound })} />
        <MutedSpeaking />
        <Overlay />
      </main>
    </RoomProvider>
  );
}

/** What one should not forget is going on. */
function Strips() {
  const screen = useLocalMedia((state) => state.screen);
  const audioOnly = useStore(page, (state) => state.audioOnly);
  const pushing = useStore(page, (state) => state.pushing);
  return (
    <div class="strips">
      {screen && (
        <p class="presenting"><Icon name="screen" /><span>{say.sharing}</span><button class="small" onClick={toggleScreen}>{say.stopSharing}</button></p>
      )}
      {audioOnly && <p class="presenting"><Icon name="ear" /><span>{say.audioOnly}</span><button class="small" onClick={toggleAudioOnly}>{say.picturesOn}</button></p>}
      {pushing && <p class="presenting pushing" role="status"><Icon name="mic" /><span>{say.pushing}</span></p>}
    </div>
  );
}

/** How loud is speech, of `LocalMedia.level`; how often it is looked at; how many looks in a row; and how long nothing is said about it again. */
const [SPEECH, LOOK_MS, LOOKS, QUIET_MS] = [0.55, 250, 4, 30_000];

/** «You are muted», said when somebody speaks who is. */
function MutedSpeaking() {
  const muted = useLocalMedia((state) => state.microphone !== null && !state.microphoneOn);
  useEffect(() => {
    if (!muted) return;
    let [loud, quietUntil] = [0, 0];
    const timer = setInterval(() => {
      loud = media.level() > SPEECH ? loud + 1 : 0;
      if (loud < LOOKS || Date.now() < quietUntil || page.state.notice) return;
      quietUntil = Date.now() + QUIET_MS;
      tell(say.mutedSpeaking, { label: say.unmute, press: () => void toggleMicrophone() });
    }, LOOK_MS);
    return () => {
      clearInterval(timer);
      if (page.state.notice?.text === say.mutedSpeaking) tell('');
    };
  }, [muted]);
  return null;
}

/** A connection that is mended within this time is not worth a word. */
const PATIENCE_MS = 400;

function Overlay() {
  const status = useRoomState((state) => state.status);
  const reason = useRoomState((state) => state.reason);
  const [patient, setPatient] = useState(true);
  useEffect(() => {
    if (status !== 'reconnecting') return setPatient(true);
    const timer = setTimeout(() => setPatient(false), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [status]);
  const lost = status === 'reconnecting' && reason === 'server/unreachable'; // that it cannot be reached is what «lost» means
  if (status === 'joined' || status === 'ended' || (status === 'reconnecting' && patient)) return null;
  return (
    <div class={`overlay ${status}`} role="alert">
      <span class="spinner" aria-hidden="true" />
      <p>{reason && !lost ? wordsFor(reason) : wordsOf(status)}</p>
      {status !== 'reconnecting' && <button onClick={leave}>{say.leave}</button>}
    </div>
  );
}
