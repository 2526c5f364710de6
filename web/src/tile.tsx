// One person, or one screen.

import { Icon } from './icons';
import { Video } from './media';
import { camera, microphoneOn, ownId, screen, speaking, trackOf } from './state';
import type { Participant } from './protocol';

export function initials(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return letters.map((word) => [...(word ?? '')][0] ?? '').join('').toUpperCase() || '?';
}

const sends = (who: Participant, source: 'camera' | 'microphone'): boolean =>
  who.tracks.some((track) => track.source === source && !track.muted);

/** One of eight hues, the same for a person everywhere. */
const hue = (userId: string): number => [...userId].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 8, 0);

export function Tile({ who }: { who: Participant }) {
  const own = who.participantId === ownId.value;
  const video = own ? camera.value : sends(who, 'camera') ? trackOf(who.participantId, 'camera') : null;
  const muted = own ? !microphoneOn.value : !sends(who, 'microphone');
  const away = who.state === 'reconnecting' && !own;
  const classes = ['tile', speaking.value.has(who.participantId) && !muted ? 'speaking' : '', away ? 'away' : ''].join(' ');
  return (
    <article class={classes} data-user={who.userId} data-participant={who.participantId} data-muted={muted} aria-label={who.userName}>
      {video
        ? <Video track={video} mirrored={own} label={`Camera of ${who.userName}`} />
        : <div class={`initials hue-${hue(who.userId)}`} aria-hidden="true">{initials(who.userName)}</div>}
      {away && <div class="veil">Reconnecting…</div>}
      <div class="name">
        {muted && <span class="muted" title="Microphone off"><Icon name="micOff" /></span>}
        <span>{who.userName}{own ? ' (you)' : ''}</span>
        {who.handRaised && <span class="raised" role="img" aria-label="Hand raised"><Icon name="hand" /></span>}
      </div>
    </article>
  );
}

export function ScreenTile({ who }: { who: Participant }) {
  const own = who.participantId === ownId.value;
  const video = own ? screen.value : trackOf(who.participantId, 'screen');
  if (!video) return null;
  return (
    <article class="tile screen" data-screen-of={who.userId} aria-label={`Screen of ${who.userName}`}>
      <Video track={video} label={`Screen of ${who.userName}`} />
      <div class="name"><Icon name="screen" /><span>{own ? 'Your screen' : `Screen of ${who.userName}`}</span></div>
    </article>
  );
}
