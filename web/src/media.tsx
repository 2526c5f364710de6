// <video> and <audio> elements that show one track each.

import { useEffect, useRef } from 'preact/hooks';
import { soundBlocked } from './state';

interface VideoProps {
  track: MediaStreamTrack;
  mirrored?: boolean;
  label: string;
}

export function Video({ track, mirrored, label }: VideoProps) {
  const element = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    const video = element.current;
    if (!video) return;
    video.srcObject = new MediaStream([track]);
    video.play().catch(() => {}); // muted video may always play; a rejection means that the track was changed meanwhile
    return () => { video.srcObject = null; };
  }, [track]);
  return <video ref={element} class={mirrored ? 'mirrored' : ''} aria-label={label} autoplay playsInline muted />;
}

const sounding = new Set<HTMLAudioElement>();

async function play(audio: HTMLAudioElement): Promise<void> {
  try {
    await audio.play();
  } catch (error) {
    if (error instanceof DOMException && error.name === 'NotAllowedError') soundBlocked.value = true;
  }
}

/** Sound of one track; kept outside of the tiles, so that it goes on when a tile is out of sight. */
export function Sound({ track }: { track: MediaStreamTrack }) {
  const element = useRef<HTMLAudioElement>(null);
  useEffect(() => {
    const audio = element.current;
    if (!audio) return;
    audio.srcObject = new MediaStream([track]);
    sounding.add(audio);
    void play(audio);
    return () => {
      sounding.delete(audio);
      audio.srcObject = null;
    };
  }, [track]);
  return <audio ref={element} autoplay />;
}

/** From a click, which unlocks sound. */
export function playAll(): void {
  soundBlocked.value = false;
  sounding.forEach((audio) => void play(audio));
}
