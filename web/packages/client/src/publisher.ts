// Sends what this person's devices give, as far as it is allowed.

import type { LocalMedia } from './api.ts';
import type { Call } from './call.ts';
import type { Permissions, Source } from './protocol.ts';

type Line = Pick<Call, 'publish' | 'pause' | 'setMuted' | 'unpublish'>;

export class Publisher {
  private readonly sent = new Map<Source, { track: MediaStreamTrack; muted: boolean }>();
  private readonly forget: () => void;

  constructor(
    private readonly call: Line,
    private readonly media: LocalMedia,
    private permissions: Permissions,
  ) {
    this.forget = media.subscribe(() => this.sync());
    this.sync();
  }

  /** Takes back what may not be sent any more. Whoever may again turns it on. */
  permit(now: Permissions): void {
    this.permissions = now;
    this.sync();
  }

  /** A moderator turned this off, all of it if no source is named. Nobody turns a microphone or camera on but its owner. */
  mute(source: Source | undefined): void {
    const meant = (one: Source): boolean => !source || source === one;
    if (meant('microphone')) this.turnOff('microphone');
    if (meant('camera')) this.turnOff('camera');
    if (meant('screen')) this.turnOff('screen');
    else if (meant('screen-audio')) this.call.unpublish('screen-audio');
  }

  close(): void {
    this.forget();
  }

  private sync(): void {
    const { camera, microphone, microphoneOn, screen, screenAudio } = this.media.state;
    this.send('microphone', microphone, !microphoneOn);
    this.send('camera', camera);
    this.send('screen', screen);
    this.send('screen-audio', screenAudio);
  }

  private send(source: Source, track: MediaStreamTrack | null, muted = false): void {
    const before = this.sent.get(source);
    if (!this.permissions.publish.includes(source)) {
      this.sent.delete(source);
      this.call.unpublish(source);
      if (track && source !== 'screen-audio') this.media.close(source);
    } else if (!track) {
      if (!before) return;
      this.sent.delete(source);
      // A device is likely to come back, and needs no renegotiation then.
      if (source === 'camera' || source === 'microphone') this.call.pause(source);
      else this.call.unpublish(source);
    } else if (before?.track !== track) {
      this.sent.set(source, { track, muted });
      this.call.publish(source, track, muted);
    } else if (before.muted !== muted) {
      before.muted = muted;
      this.call.setMuted(source, muted);
    }
  }

  private turnOff(source: Source): void {
    const { camera, microphoneOn, screen } = this.media.state;
    if (source === 'microphone' && microphoneOn) void this.media.setMicrophone(false);
    if (source === 'camera' && camera) void this.media.setCamera(false);
    if (source === 'screen' && screen) void this.media.setScreen(false);
  }
}
