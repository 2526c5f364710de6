// One person, or one screen.

import { Icon } from './icons';
import { Video } from './media';
import { camera, microphoneOn, ownId, paused, qualities, relayed, relayWanted, speaking, trackOf } from './state';
import type { Participant, Quality } from '@lyceum/client/protocol';

export function initials(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return letters.map((word) => [...(word ?? '')][0] ?? '').join('').toUpperCase() || '?';
}

const sends = (who: Participant, source: 'camera' | 'microphone'): boolean =>
  who.tracks.some((track) => track.source === source && !track.muted);

/** One of eight hues, the same for a person everywhere. */
const hue = (userId: string): number => [...userId].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 8, 0);

/** `shift`: the half column in which the tile begins, where it is not simply the next one; 0 otherwise. */
export function Tile({ who, shift }: { who: Participant; shift: number }) {
  const own = who.participantId === ownId.value;
  const remote = !own && sends(who, 'camera') ? trackOf(who.participantId, 'camera') : null;
  const video = own ? camera.value : remote?.track;
  const still = remote !== null && paused.value.has(remote.trackId);
  const muted = own ? !microphoneOn.value : !sends(who, 'microphone');
  const away = who.state === 'reconnecting' && !own;
  const classes = ['tile', speaking.value.has(who.participantId) && !muted ? 'speaking' : '', away ? 'away' : ''].join(' ');
  const nobody = <div class={`initials hue-${hue(who.userId)}`} aria-hidden="true">{initials(who.userName)}</div>;
  return (
    <article class={classes} style={shift ? { gridColumn: `${shift} / span 2` } : {}} data-user={who.userId} data-participant={who.participantId} data-muted={muted} aria-label={who.userName}>
      {video
        ? <Video track={video} mirrored={own} label={`Camera of ${who.userName}`} {...(remote && { trackId: remote.trackId })}>{nobody}</Video>
        : nobody}
      {still && !away && <div class="veil still">Video paused: your connection is slow</div>}
      {away && <div class="veil">Reconnecting…</div>}
      {own && <RelayMark />}
      <div class="name">
        {muted && <span class="muted" role="img" aria-label="Microphone off"><Icon name="micOff" /></span>}
        <span>{who.userName}{own ? ' (you)' : ''}</span>
        {who.handRaised && <span class="raised" role="img" aria-label="Hand raised"><Icon name="hand" /></span>}
        <Bars quality={qualities.value.get(who.participantId)} own={own} />
      </div>
    </article>
  );
}

const CAUSES = { uplink: 'sending', downlink: 'receiving', server: 'the server', relay: 'a relayed connection' };

/** Bars for a connection that is not good; a good one needs no attention. */
function Bars({ quality, own }: { quality: Quality | undefined; own: boolean }) {
  if (!quality || quality.score > 2) return null;
  const who = own ? 'Your connection' : 'Connection';
  const words = `${who} is ${['lost', 'bad', 'weak'][quality.score]}${quality.cause ? `: ${CAUSES[quality.cause]}` : ''}`;
  return (
    <span class={`bars score-${quality.score}`} role="img" aria-label={words} title={words}>
      <i /><i /><i />
    </span>
  );
}

/** Says of the own media that it takes a detour, and by what; and when it was asked to and does not. */
export function RelayMark() {
  const how = relayed.value.toUpperCase();
  if (!how && !relayWanted) return null;
  const words = how
    ? `Your media goes by a relay (TURN over ${how}) instead of straight to the server. It may arrive a little later.`
    : 'Only relayed media was asked for, and there is no relayed connection.';
  return <small class="relayed" title={words} aria-label={words} role="img">{how ? `Relayed (${how})` : 'Not relayed'}</small>;
}

export function ScreenTile({ who }: { who: Participant }) {
  const shown = trackOf(who.participantId, 'screen');
  if (!shown) return null;
  return (
    <article class="tile screen" data-screen-of={who.userId} aria-label={`Screen of ${who.userName}`}>
      <Video track={shown.track} trackId={shown.trackId} label={`Screen of ${who.userName}`}><span class="dim">The screen is on its way…</span></Video>
      <div class="name"><Icon name="screen" /><span>Screen of {who.userName}</span></div>
    </article>
  );
}
