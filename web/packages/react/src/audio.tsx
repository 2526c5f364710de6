'use client';

import { useCallback, useContext, useEffect, useRef } from 'react';
import type { MediaState, Store } from '@lyceum/client';
import { useTracks } from './hooks.ts';
import { Call } from './room.tsx';
import { useStore } from './store.ts';

export interface RoomAudioProps {
  /**
   * The browser plays no sound before the person has touched the page; `unlock` is for a button that says so. A click or a key anywhere
   * does the same. `null`: it plays.
   */
  onBlocked?: (unlock: (() => void) | null) => void;
}

const nothing: Store<Pick<MediaState, 'chosen'>> = {
  state: { chosen: { camera: '', microphone: '', speaker: '' } },
  subscribe: () => () => {},
};

/** The sound of everybody else; once in a page, and beside the tiles, so that it goes on when a tile is out of sight. */
export function RoomAudio({ onBlocked }: RoomAudioProps) {
  const tracks = useTracks({ kind: 'audio' });
  const speaker = useStore(useContext(Call)?.media ?? nothing, (state) => state.chosen.speaker);
  const box = useRef<HTMLDivElement>(null);
  const latest = useRef(onBlocked);
  useEffect(() => { latest.current = onBlocked; });
  const blocked = useRef(false);

  const tell = useCallback((now: boolean): void => {
    if (blocked.current === now) return;
    blocked.current = now;
    const listen = now ? document.addEventListener : document.removeEventListener;
    for (const gesture of ['click', 'keydown']) listen.call(document, gesture, unlock);
    latest.current?.(now ? unlock : null);
  }, []);
  const play = useCallback(async (audio: HTMLAudioElement): Promise<void> => {
    await audio.play().catch((error: unknown) => {
      if (error instanceof DOMException && error.name === 'NotAllowedError') tell(true);
    });
  }, []);
  const unlock = useCallback((): void => {
    tell(false);
    box.current?.querySelectorAll('audio').forEach((audio) => void play(audio));
  }, []);
  useEffect(() => () => tell(false), []);
  return (
    <div ref={box} hidden>
      {tracks.map((one) => <Sound key={one.trackId} track={one.track} speaker={speaker} play={play} />)}
    </div>
  );
}

function Sound({ track, speaker, play }: { track: MediaStreamTrack; speaker: string; play(audio: HTMLAudioElement): Promise<void> }) {
  const element = useRef<HTMLAudioElement>(null);
  useEffect(() => {
    const audio = element.current;
    if (!audio) return;
    audio.srcObject = new MediaStream([track]);
    void play(audio);
    return () => { audio.srcObject = null; };
  }, [track]);
  useEffect(() => {
    const audio = element.current;
    if (audio && 'setSinkId' in audio) audio.setSinkId(speaker).catch(() => {}); // unplugged: the sound stays where it is
  }, [speaker]);
  return <audio ref={element} autoPlay />;
}
