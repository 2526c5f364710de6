// Says how large a picture is shown, as long as it is shown.

import type { Room } from './api.ts';

/**
 * Tells the server the size of a <video> that shows this track, in device pixels, and that it is not seen while it is scrolled away or
 * the page is hidden: so no more of it is sent than can be seen. `priority`: see `Wish`. Until the function that it gives back is
 * called. One element per track: what is said last counts.
 */
export function fit(room: Pick<Room, 'want' | 'unwant'>, trackId: string, video: HTMLVideoElement, priority?: number): () => void {
  let inSight = true;
  const tell = (): void => {
    const seen = inSight && document.visibilityState === 'visible';
    const pixels = (length: number): number => (seen ? Math.ceil(length * devicePixelRatio) : 0);
    const size = { width: pixels(video.clientWidth), height: pixels(video.clientHeight) };
    room.want(trackId, priority === undefined ? size : { ...size, priority });
  };
  const size = new ResizeObserver(tell);
  const sight = new IntersectionObserver((entries) => {
    inSight = entries.at(-1)?.isIntersecting ?? true;
    tell();
  });
  size.observe(video);
  sight.observe(video);
  document.addEventListener('visibilitychange', tell);
  return () => {
    size.disconnect();
    sight.disconnect();
    document.removeEventListener('visibilitychange', tell);
    room.unwant(trackId);
  };
}
