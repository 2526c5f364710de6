// <video> and <audio> elements that show one track each.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { chosen, soundBlocked, unwant, want } from './state';

interface VideoProps {
  track: MediaStreamTrack;
  mirrored?: boolean;
  label: string;
  /** Of somebody else: the server is told how large it is shown. */
  trackId?: string;
  /** Shown until the first frame. */
  children?: ComponentChildren;
}

/**
 * Tells the server the size of a picture in device pixels, and that it is not seen while it is scrolled away or the page is hidden.
 */
function useWish(element: { current: HTMLVideoElement | null }, trackId: string | undefined): void {
  useEffect(() => {
    const video = element.current;
    if (!video || !trackId) return;
    let inSight = true;
    const tell = (): void => {
      const seen = inSight && document.visibilityState === 'visible';
      const pixels = (length: number): number => (seen ? Math.ceil(length * devicePixelRatio) : 0);
      want(trackId, { width: pixels(video.clientWidth), height: pixels(video.clientHeight) });
    };
    const size = new ResizeObserver(tell);
    const sight = new IntersectionObserver(([entry]) => {
      inSight = entry?.isIntersecting ?? true;
      tell();
    });
    size.observe(video);
    sight.observe(video);
    document.addEventListener('visibilitychange', tell);
    return () => {
      size.disconnect();
      sight.disconnect();
      document.removeEventListener('visibilitychange', tell);
      unwant(trackId);
    };
  }, [trackId]);
}

export function Video({ track, mirrored, label, trackId, children }: VideoProps) {
  const element = useRef<HTMLVideoElement>(null);
  const [lit, setLit] = useState<MediaStreamTrack | null>(null);
  useEffect(() => {
    const video = element.current;
    if (!video) return;
    video.srcObject = new MediaStream([track]);
    video.play().catch(() => {}); // muted video may always play; a rejection means that the track was changed meanwhile
    return () => { video.srcObject = null; };
  }, [track]);
  useWish(element, trackId);
  const dark = lit !== track;
  return (
    <>
      {dark && children}
      <video ref={element} class={`${mirrored ? 'mirrored' : ''} ${dark ? 'unlit' : ''}`} aria-label={label} tabIndex={-1} autoplay playsInline muted
        onLoadedData={() => setLit(track)} />
    </>
  );
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
  const speaker = chosen.speaker.value;
  useEffect(() => {
    const audio = element.current;
    if (audio && 'setSinkId' in audio) audio.setSinkId(speaker).catch(() => {}); // unplugged: the sound stays where it is
  }, [speaker]);
  return <audio ref={element} autoplay />;
}

/** From a click, which unlocks sound. */
export function playAll(): void {
  soundBlocked.value = false;
  sounding.forEach((audio) => void play(audio));
}
