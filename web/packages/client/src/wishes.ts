// How much of others' pictures is wanted, and telling the server so: late, seldom, and only what is news.

import type { Ack, Wish } from './protocol.ts';

/** While a window is being resized the server is told once, not at every step. */
const DELAY_MS = 150;

const UNSEEN: Wish = { width: 0, height: 0 };

/** Says to the server what is wanted of a track; `false`: not now. */
export type Subscribe = (body: object, answered: (ack: Ack) => void) => boolean;

export class Wishes {
  private readonly wishes = new Map<string, Wish>(); // trackId → what is wanted of it
  private readonly told = new Map<string, string>(); // … and what of it the server was told
  private videos: ReadonlySet<string> = new Set(); // of others, as the roster has them
  private audioOnly = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly subscribe: Subscribe) {}

  want(trackId: string, wish: Wish): void {
    this.wishes.set(trackId, wish);
    this.later();
  }

  /** Nobody shows it any more: unless somebody does again at once, as when a tile moves, nothing of it is sent. */
  unwant(trackId: string): void {
    if (this.wishes.has(trackId)) this.want(trackId, UNSEEN);
  }

  setAudioOnly(on: boolean): void {
    this.audioOnly = on;
    this.tell();
  }

  /** The videos that others have now. What is not among them any more is forgotten. */
  setVideos(now: ReadonlySet<string>): void {
    for (const trackId of this.videos) {
      if (now.has(trackId)) continue;
      this.wishes.delete(trackId);
      this.told.delete(trackId);
    }
    this.videos = now;
    if (this.audioOnly) this.tell(); // at once, before a picture of somebody new comes
    else this.later();
  }

  /** A new seat, of which the server knows no wish: all are told with its roster. */
  anew(): void {
    this.told.clear();
  }

  close(): void {
    clearTimeout(this.timer);
  }

  private later(): void {
    this.timer ??= setTimeout(() => this.tell(), DELAY_MS);
  }

  private tell(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    for (const trackId of new Set([...this.wishes.keys(), ...this.videos])) {
      const wish = this.wishes.get(trackId);
      const body = this.bodyFor(trackId, wish);
      const words = JSON.stringify(body);
      const before = this.told.get(trackId) ?? '{}';
      if (words === before) continue;
      this.told.set(trackId, words);
      const said = this.subscribe({ trackId, ...body }, (ack) => {
        if (ack.ok) return;
        this.told.delete(trackId); // it has ended, or comes with the next roster
        if (wish === UNSEEN && !this.videos.has(trackId)) this.wishes.delete(trackId);
      });
      if (said) continue;
      this.told.set(trackId, before);
      return; // with the next join
    }
  }

  private bodyFor(trackId: string, wish: Wish | undefined): object {
    if (this.audioOnly) return { enabled: false };
    return this.told.get(trackId)?.includes('enabled') ? { enabled: true, ...wish } : { ...wish };
  }
}
