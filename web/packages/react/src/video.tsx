'use client';

import { useContext, useEffect, useRef, useState, type ReactNode } from 'react';
import { fit, type RemoteTrack } from '@lyceum/client';
import { Call } from './room.tsx';

export interface VideoTileProps {
  /** Somebody else's, of whom the server is told how large it is shown; or one's own. */
  track: RemoteTrack | MediaStreamTrack;
  /** As in a mirror, as one sees oneself. */
  mirrored?: boolean;
  /** What it is, for those who do not see it. */
  label?: string;
  className?: string;
  /** How much this picture matters where the line is too narrow for all: 0…255, by default 128. */
  priority?: number;
  /** Shown until the first frame. */
  children?: ReactNode;
}

/** A picture. It has the classes `mirrored`, and `unlit` until the first frame. */
export function VideoTile({ track: shown, mirrored, label, className, priority, children }: VideoTileProps) {
  const [track, trackId] = 'trackId' in shown ? [shown.track, shown.trackId] : [shown, undefined];
  const element = useRef<HTMLVideoElement>(null);
  const [lit, setLit] = useState<MediaStreamTrack | null>(null);
  useEffect(() => {
    const video = element.current;
    if (!video) return;
    video.srcObject = new MediaStream([track]);
    video.play().catch(() => {}); // muted video may always play; a rejection means that the track was changed meanwhile
    return () => { video.srcObject = null; };
  }, [track]);
  const room = useContext(Call)?.room;
  useEffect(() => {
    const video = element.current;
    if (video && trackId && room) return fit(room, trackId, video, priority);
  }, [room, trackId, priority]);
  const dark = lit !== track;
  const classes = [className, mirrored && 'mirrored', dark && 'unlit'].filter(Boolean).join(' ');
  return (
    <>
      {dark && children}
      <video ref={element} className={classes} style={mirrored ? { transform: 'scaleX(-1)' } : {}} aria-label={label} tabIndex={-1} autoPlay playsInline muted
        onLoadedData={() => setLit(track)} />
    </>
  );
}
