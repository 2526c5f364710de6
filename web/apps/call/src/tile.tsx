// One person, or one screen.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import type { Participant, Quality, RemoteTrack, RoomState } from '@lyceum/client';
import { VideoTile, useConnectionQuality, useLocalMedia, useRoomState, useStore } from '@lyceum/react';
import { Icon } from './icons';
import { page, relayWanted, togglePin } from './page';
import { words } from './strings';

const say = words.tile;

export function initials(name: string): string {
  const parts = name.trim().split(/\s+/).filter(Boolean);
  const letters = parts.length > 1 ? [parts[0], parts[parts.length - 1]] : parts;
  return letters.map((word) => [...(word ?? '')][0] ?? '').join('').toUpperCase() || '?';
}

export const sends = (who: Participant, source: 'camera' | 'microphone' | 'screen'): boolean =>
  who.tracks.some((track) => track.source === source && !track.muted);

/** One of eight hues, the same for a person everywhere. */
export const hue = (userId: string): number => [...userId].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 8, 0);

const trackOf = (id: string, source: 'camera' | 'screen') => (state: RoomState): RemoteTrack | undefined =>
  state.tracks.find((one) => one.participantId === id && one.source === source);

/** What is pinned comes first on a line that is too narrow for all. */
const PINNED_PRIORITY = 255;

/** The longer side of the last picture that is kept, in pixels. */
const STILL_SIZE = 480;

/**
 * A picture that keeps what it showed last while there is nothing new: `lost` says that the way to it is broken. `children`
 * are shown as long as there was none.
 */
function Picture({ track, lost, children, ...rest }: {
  track: RemoteTrack | MediaStreamTrack | undefined; lost: boolean; label: string; mirrored?: boolean; priority?: number; children: ComponentChildren;
}) {
  const box = useRef<HTMLDivElement>(null);
  const still = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const video = box.current?.querySelector('video');
    if (!lost || !still.current || !video?.videoWidth) return;
    const scale = Math.min(1, STILL_SIZE / Math.max(video.videoWidth, video.videoHeight));
    Object.assign(still.current, { width: video.videoWidth * scale, height: video.videoHeight * scale, hidden: false });
    still.current.getContext('2d')?.drawImage(video, 0, 0, still.current.width, still.current.height);
  }, [lost]);
  return (
    <div ref={box} class="picture">
      {!track && children}
      {track && <VideoTile track={track} {...rest}>{children}</VideoTile>}
      <canvas ref={still} class="still" hidden aria-hidden="true" />
    </div>
  );
}

interface TileProps {
  who: Participant;
  speaking: boolean;
  /** The half column in which the tile begins, where it is not simply the next one; 0 otherwise. */
  shift?: number;
  /** Shown large, by itself. */
  large?: boolean;
}

export function Tile({ who, speaking, shift = 0, large = false }: TileProps) {
  const id = who.participantId;
  const own = useRoomState((state) => state.ownId === id);
  const camera = useLocalMedia((state) => state.camera);
  const microphoneOn = useLocalMedia((state) => state.microphoneOn);
  const remote = useRoomState(trackOf(id, 'camera'));
  const still = useRoomState((state) => remote !== undefined && state.paused.has(remote.trackId));
  const broken = useRoomState((state) => state.status !== 'joined');
  const missing = useRoomState((state) => who.tracks.map((one) => (one.source === 'camera' ? state.unavailable.get(one.trackId) : '')).find(Boolean) ?? '');
  const pinned = useStore(page, (state) => state.pinned === id);
  const audioOnly = useStore(page, (state) => state.audioOnly);
  const emoji = useStore(page, (state) => state.reactions.get(id));
  const had = useRef(false);
  const away = who.state === 'reconnecting' && !own;
  const shows = own ? camera !== null : !audioOnly && !missing && (sends(who, 'camera') || (away && had.current));
  had.current = shows;
  const muted = own ? !microphoneOn : !sends(who, 'microphone');
  const classes = ['tile', speaking && !muted ? 'speaking' : '', away ? 'away' : '', large ? 'large' : '', own ? 'own' : ''].join(' ');
  const nobody = <div class={`initials hue-${hue(who.userId)}`} aria-hidden="true">{initials(who.userName)}</div>;
  return (
    <article class={classes} style={shift ? { gridColumn: `${shift} / span 2` } : {}} data-user={who.userId} data-participant={id} data-muted={muted}
      aria-label={who.userName} onDblClick={() => togglePin(id)}>
      {shows
        ? <Picture track={own ? camera ?? undefined : remote} lost={away || (broken && !own)} mirrored={own} label={say.camera(who.userName)}
          {...(pinned && { priority: PINNED_PRIORITY })}>{nobody}</Picture>
        : nobody}
      {still && !away && <div class="veil still-word">{say.still}</div>}
      {missing && !away && sends(who, 'camera') && <div class="veil still-word low">{missing === 'codec' ? say.codec : say.limit}</div>}
      {away && <div class="veil">{say.away}</div>}
      {own && <RelayMark />}
      {emoji && <span class="reaction" aria-hidden="true">{emoji}</span>}
      <Pin id={id} name={who.userName} pinned={pinned} />
      <Name who={who} own={own} muted={muted} />
    </article>
  );
}

function Name({ who, own, muted }: { who: Participant; own: boolean; muted: boolean }) {
  const place = useRoomState((state) => state.hands.indexOf(who.participantId) + 1);
  const raised = who.handRaised || place > 0;
  return (
    <div class="name">
      {muted && <span class="muted" role="img" aria-label={say.micOff}><Icon name="micOff" /></span>}
      <span>{own ? words.you(who.userName) : who.userName}</span>
      {raised && <span class="raised" role="img" aria-label={say.hand}><Icon name="hand" /></span>}
      <Bars id={who.participantId} own={own} />
    </div>
  );
}

function Pin({ id, name, pinned }: { id: string; name: string; pinned: boolean }) {
  const label = pinned ? say.unpin(name) : say.pin(name);
  return (
    <button type="button" class={`pin ${pinned ? 'pressed' : ''}`} data-action="pin" aria-label={label} title={label}
      onClick={() => togglePin(id)} onDblClick={(event) => event.stopPropagation()}><Icon name="pin" /></button>
  );
}

/** Bars for a connection that is not good; a good one needs no attention. */
function Bars({ id, own }: { id: string; own: boolean }) {
  const quality: Quality | undefined = useConnectionQuality(id);
  if (!quality || quality.score > 2) return null;
  const told = say.quality(own, quality.score, quality.cause ? say.causes[quality.cause] : '');
  return (
    <span class={`bars score-${quality.score}`} role="img" aria-label={told} title={told}>
      <i /><i /><i />
    </span>
  );
}

/** Says of the own media that it takes a detour, and by what; and when it was asked to and does not. */
export function RelayMark() {
  const how = useRoomState((state) => state.relayed).toUpperCase();
  if (!how && !relayWanted) return null;
  const told = how ? say.relayedWhy(how) : say.notRelayedWhy;
  return <small class="relayed" title={told} aria-label={told} role="img">{how ? say.relayed(how) : say.notRelayed}</small>;
}

export function ScreenTile({ who }: { who: Participant }) {
  const shown = useRoomState(trackOf(who.participantId, 'screen'));
  const broken = useRoomState((state) => state.status !== 'joined');
  const still = useRoomState((state) => shown !== undefined && state.paused.has(shown.trackId));
  const key = `screen:${who.participantId}`;
  const pinned = useStore(page, (state) => state.pinned === key);
  const label = say.screen(who.userName);
  return (
    <article class="tile screen" data-screen-of={who.userId} aria-label={label} onDblClick={() => togglePin(key)}>
      <Picture track={shown} lost={broken} label={label} {...(pinned && { priority: PINNED_PRIORITY })}><span class="dim">{say.screenComing}</span></Picture>
      {still && <div class="veil still-word low">{say.still}</div>}
      <Pin id={key} name={label} pinned={pinned} />
      <div class="name"><Icon name="screen" /><span>{label}</span></div>
    </article>
  );
}
