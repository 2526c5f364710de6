// Who is shown as speaking: what the server says, held a little longer, so that nothing flickers between two words.

import { useEffect, useRef, useState } from 'preact/hooks';
import { useActiveSpeakers, useRoomState } from '@lyceum/react';

/** A pause in speech is no end of it. */
const HOLD_MS = 900;
/** Somebody who coughs is not brought to the front. */
const TAKE_MS = 1_200;

/** `participantId`s. */
export function useSpeaking(): ReadonlySet<string> {
  const speakers = useActiveSpeakers();
  const [held, setHeld] = useState<ReadonlySet<string>>(new Set());
  const heard = useRef(new Map<string, number>());
  useEffect(() => {
    let timer = 0;
    const look = (): void => {
      const now = performance.now();
      for (const id of speakers) heard.current.set(id, now);
      for (const [id, at] of heard.current) if (now - at >= HOLD_MS) heard.current.delete(id);
      setHeld((before) => (before.size === heard.current.size && [...before].every((id) => heard.current.has(id)) ? before : new Set(heard.current.keys())));
      const waits = [...heard.current].some(([id]) => !speakers.includes(id));
      if (waits) timer = window.setTimeout(look, HOLD_MS / 3);
    };
    look();
    return () => {
      clearTimeout(timer);
      const now = performance.now();
      for (const id of speakers) heard.current.set(id, now); // they spoke until now
    };
  }, [speakers]);
  return held;
}

/** Who is shown large in the speaker view: the loudest of the others for some time, else who was it before; empty when alone. */
export function useMainSpeaker(): string {
  const others = useRoomState((state) => state.participants.filter((one) => one.participantId !== state.ownId).map((one) => one.participantId));
  const loudest = useRoomState((state) => state.speakers.find((id) => id !== state.ownId) ?? '');
  const [main, setMain] = useState('');
  useEffect(() => {
    if (!loudest || loudest === main) return;
    const timer = setTimeout(() => setMain(loudest), main ? TAKE_MS : 0);
    return () => clearTimeout(timer);
  }, [loudest, main]);
  return others.includes(main) ? main : others[0] ?? '';
}
