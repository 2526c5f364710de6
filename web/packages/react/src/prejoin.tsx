'use client';

import { useEffect, useRef, useState, type ReactNode } from 'react';
import { wordsFor, type DeviceKind } from '@lyceum/client';
import { useDevices, useLocalMedia, useRoomState } from './hooks.ts';
import { useMedia, useRoom } from './room.tsx';
import { VideoTile } from './video.tsx';

const WORDS = {
  preview: 'Preview',
  cameraOff: 'Your camera is off',
  turnCameraOn: 'Turn camera on',
  turnCameraOff: 'Turn camera off',
  turnMicrophoneOn: 'Turn microphone on',
  turnMicrophoneOff: 'Turn microphone off',
  level: 'Loudness of your microphone',
  camera: 'Camera',
  microphone: 'Microphone',
  speaker: 'Speaker',
  name: 'Your name',
  join: 'Join',
};

export interface PreJoinProps {
  /** What the name field begins with. */
  name?: string;
  /** Whether to ask for the name: by default if `onJoin` is there to hear it. A token says it already. */
  asksName?: boolean;
  /** Whether to turn camera and microphone on when this is first shown, so that the browser asks for them: by default it does. */
  begins?: boolean;
  /** The person wants to go in; by default that joins. */
  onJoin?: (name: string) => void;
  /** In another language. */
  words?: Partial<typeof WORDS>;
  /** Why a device does not work, and why the last call ended. */
  wordsFor?: typeof wordsFor;
  /** More fields, above the button. */
  children?: ReactNode;
}

/** Devices that were asked for once are the person's own business after that. */
const begun = new WeakSet<object>();

/**
 * What is seen before a call: oneself, one's devices and what is wrong with them, and the way in. It brings no style; its classes are
 * `lyceum-prejoin` with `preview`, `controls`, `pickers`, `faults`, `ended` inside.
 */
export function PreJoin({ name = '', begins = true, onJoin, asksName = onJoin !== undefined, words, wordsFor: say = wordsFor, children }: PreJoinProps) {
  const word = { ...WORDS, ...words };
  const [room, media] = [useRoom(), useMedia()];
  const { camera, microphoneOn, faults } = useLocalMedia();
  const reason = useRoomState((state) => (state.status === 'ended' ? state.reason : ''));
  const [who, setWho] = useState(name);
  useEffect(() => {
    if (!begins || begun.has(media)) return;
    begun.add(media);
    void media.start();
  }, [media]);
  return (
    <form className="lyceum-prejoin" onSubmit={(event) => {
      event.preventDefault();
      if (onJoin) onJoin(who.trim());
      else room.join();
    }}>
      <section className="preview" aria-label={word.preview}>
        {camera ? <VideoTile track={camera} mirrored label={word.preview} /> : <p>{word.cameraOff}</p>}
        <div className="controls">
          <button type="button" data-action="mic" data-on={microphoneOn} onClick={() => void media.setMicrophone(!microphoneOn)}>
            {microphoneOn ? word.turnMicrophoneOff : word.turnMicrophoneOn}
          </button>
          <button type="button" data-action="camera" data-on={camera !== null} onClick={() => void media.setCamera(!camera)}>
            {camera ? word.turnCameraOff : word.turnCameraOn}
          </button>
          <Meter label={word.level} />
        </div>
      </section>
      <ul className="faults" role="status">
        {(['camera', 'microphone'] as const).map((kind) => faults[kind] && <li key={kind} data-fault={faults[kind]}>{say(faults[kind], kind)}</li>)}
      </ul>
      <div className="pickers">
        <Picker kind="camera" title={word.camera} />
        <Picker kind="microphone" title={word.microphone} />
        <Picker kind="speaker" title={word.speaker} />
      </div>
      {reason && <p className="ended" role="status">{say(reason)}</p>}
      {asksName && (
        <label>
          {word.name}
          <input name="name" required maxLength={128} autoComplete="name" value={who} onChange={(event) => setWho(event.currentTarget.value)} />
        </label>
      )}
      {children}
      <button type="submit" data-action="join">{word.join}</button>
    </form>
  );
}

function Picker({ kind, title }: { kind: DeviceKind; title: string }) {
  const { devices, chosen, choose } = useDevices(kind);
  if (!devices.length) return null;
  const current = devices.find((one) => one.id === chosen) ?? devices[0];
  return (
    <label>
      {title}
      <select name={kind} value={current?.id} onChange={(event) => void choose(event.currentTarget.value)}>
        {devices.map((one) => <option key={one.id} value={one.id}>{one.label}</option>)}
      </select>
    </label>
  );
}

const METER_MS = 100;

/** Moves without rendering. */
function Meter({ label }: { label: string }) {
  const media = useMedia();
  const element = useRef<HTMLMeterElement>(null);
  useEffect(() => {
    const timer = setInterval(() => {
      if (element.current) element.current.value = media.level();
    }, METER_MS);
    return () => clearInterval(timer);
  }, [media]);
  return <meter ref={element} min={0} max={1} value={0} aria-label={label} />;
}
