'use client';

import { useRef, useState } from 'react';
import { wordsFor } from '@lyceum/client';
import { PreJoin, RoomAudio, RoomProvider, VideoTile, useChat, useLocalMedia, useMedia, useParticipants, useRoom, useRoomState, useTracks } from '@lyceum/react';

async function fetchToken(sessionId: string, userName: string): Promise<string> {
  const answer = await fetch('/api/token', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ sessionId, userName }),
  });
  const { token, error } = await answer.json();
  if (!answer.ok) throw new Error(error.code);
  return token;
}

/** A whole lesson: the way in, and the call. */
export function Lesson({ url, sessionId }: { url: string; sessionId: string }) {
  const name = useRef('');
  return (
    <RoomProvider options={{ url, sessionId, token: () => fetchToken(sessionId, name.current) }}>
      <Door onName={(given) => { name.current = given; }} />
    </RoomProvider>
  );
}

function Door({ onName }: { onName(name: string): void }) {
  const room = useRoom();
  const out = useRoomState((state) => state.status === 'idle' || state.status === 'ended');
  if (!out) return <Call />;
  return <PreJoin onJoin={(name) => { onName(name); room.join(); }} />;
}

function Call() {
  const [status, reason] = [useRoomState((state) => state.status), useRoomState((state) => state.reason)];
  const [unlock, setUnlock] = useState<(() => void) | null>(null);
  return (
    <main className="call">
      {status !== 'joined' && <p role="status">{reason ? wordsFor(reason) : `${status}…`}</p>}
      {unlock && <button onClick={unlock}>Turn sound on</button>}
      <Grid />
      <Chat />
      <Bar />
      <RoomAudio onBlocked={(unlock) => setUnlock(() => unlock)} />
    </main>
  );
}

function Grid() {
  const ownId = useRoomState((state) => state.ownId);
  const { camera } = useLocalMedia();
  const cameras = useTracks({ source: 'camera' });
  return (
    <section className="grid" aria-label="People">
      {useParticipants().map(({ participantId, userName, tracks }) => {
        const remote = cameras.find((one) => one.participantId === participantId);
        const isOn = tracks.some((one) => one.trackId === remote?.trackId && !one.muted);
        const picture = participantId === ownId ? camera : isOn && remote;
        return (
          <article key={participantId} className="tile" data-participant={participantId} aria-label={userName}>
            {picture ? <VideoTile track={picture} mirrored={participantId === ownId} label={`Camera of ${userName}`} /> : null}
            <span className="name">{userName}</span>
          </article>
        );
      })}
    </section>
  );
}

function Chat() {
  const { messages, allowed, say } = useChat();
  const [text, setText] = useState('');
  return (
    <aside className="chat" aria-label="Chat">
      <ol>{messages.map((one) => <li key={one.id}><b>{one.userName}</b> {one.message}</li>)}</ol>
      <form onSubmit={async (event) => {
        event.preventDefault();
        if (await say(text) === '') setText('');
      }}>
        <input aria-label="Message" name="message" required disabled={!allowed} value={text} onChange={(event) => setText(event.target.value)} />
        <button disabled={!allowed}>Send</button>
      </form>
    </aside>
  );
}

function Bar() {
  const [room, media] = [useRoom(), useMedia()];
  const { camera, microphoneOn } = useLocalMedia();
  return (
    <nav className="bar" aria-label="Call controls">
      <button data-action="mic" onClick={() => media.setMicrophone(!microphoneOn)}>{microphoneOn ? 'Mute' : 'Unmute'}</button>
      <button data-action="camera" onClick={() => media.setCamera(!camera)}>{camera ? 'Camera off' : 'Camera on'}</button>
      <button data-action="leave" onClick={() => room.leave()}>Leave</button>
    </nav>
  );
}
