// The tiles: all alike in pages, or one of them large with the others beside it.

import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { Participant, Source } from '@lyceum/client';
import { useActiveSpeakers, useParticipants, useRoom, useRoomState, useStore } from '@lyceum/react';
import { Icon } from './icons';
import { arrange, capacity, fit, useSize } from './layout';
import { page, togglePanel } from './page';
import { SelfView } from './self';
import { useMainSpeaker, useSpeaking } from './speaking';
import { words } from './strings';
import { ScreenTile, Tile } from './tile';

const say = words.call;

/** So many faces are beside what is shown large; the list of people names the others. */
const STRIP_MAX = 12;

/** Everybody in their places but `without`, of which the first `room` are seen first. */
function usePlaces(room: number, without: readonly string[]): Participant[] {
  const [everyone, speakers] = [useParticipants().filter((one) => !without.includes(one.participantId)), useActiveSpeakers()];
  const own = useRoomState((state) => state.ownId);
  const order = useRef<string[]>([]);
  order.current = arrange(order.current, idsOf(everyone), speakers, room, own);
  const byId = new Map(everyone.map((one) => [one.participantId, one]));
  return order.current.flatMap((id) => byId.get(id) ?? []);
}

/** Tells the server of pictures that have no place on the stage, those that never had one included: nothing of them is to be sent. */
function useUnseen(source: Source, hidden: readonly string[]): void {
  const room = useRoom();
  const unseen = useRoomState((state) => state.tracks.filter((one) => one.source === source && hidden.includes(one.participantId)).map((one) => one.trackId));
  useEffect(() => unseen.forEach((trackId) => room.want(trackId, { width: 0, height: 0 })), [unseen]);
}

const idsOf = (people: readonly Participant[]): string[] => people.map((one) => one.participantId);

export function Stage() {
  const everyone = useParticipants();
  const sharing = useRoomState((state) => state.participants.filter((one) => one.participantId !== state.ownId
    && state.tracks.some((track) => track.participantId === one.participantId && track.source === 'screen')));
  const audioOnly = useStore(page, (state) => state.audioOnly);
  const layout = useStore(page, (state) => state.layout);
  const pinned = useStore(page, (state) => state.pinned);
  const main = useMainSpeaker();
  const speaking = useSpeaking();
  const screens = audioOnly ? [] : sharing;
  // One's own choice goes first, then what is shared, then whoever speaks.
  const pinnedScreen = screens.find((one) => `screen:${one.participantId}` === pinned);
  const large = everyone.find((one) => one.participantId === pinned)
    ?? (screens.length || layout === 'grid' ? undefined : everyone.find((one) => one.participantId === main));
  const focus = large
    ? <Tile key={large.participantId} who={large} speaking={speaking.has(large.participantId)} large />
    : (pinnedScreen ? [pinnedScreen] : screens).map((who) => <ScreenTile key={who.participantId} who={who} />);
  const beside = large || screens.length > 0;
  const ownId = useRoomState((state) => state.ownId);
  const own = everyone.length > 1 && large?.participantId !== ownId ? everyone.find((one) => one.participantId === ownId) : undefined;
  const selfHidden = useStore(page, (state) => state.selfHidden);
  // A face may lie over a face, but not over what somebody shows.
  const floats = everyone.length === 2 && !screens.length;
  const elsewhere = own && (floats || selfHidden) ? [ownId] : [];
  useUnseen('screen', idsOf(sharing.filter((one) => large || (pinnedScreen && one !== pinnedScreen))));
  return (
    <section class={`stage ${beside ? 'focused' : ''}`} aria-label={say.stage}>
      {beside && <div class="focus" data-count={large || pinnedScreen ? 1 : screens.length}>{focus}</div>}
      {beside
        ? <Strip speaking={speaking} without={large ? [large.participantId, ...elsewhere] : elsewhere} />
        : <Grid speaking={speaking} without={elsewhere} />}
      {own && floats && !selfHidden && <SelfView who={own} speaking={speaking.has(ownId)} />}
    </section>
  );
}

interface Places {
  speaking: ReadonlySet<string>;
  /** `participantId`s of who is shown elsewhere, or not at all. */
  without: readonly string[];
}

function Grid({ speaking, without }: Places) {
  const grid = useRef<HTMLDivElement>(null);
  const [stageWidth, stageHeight] = useSize(grid);
  const room = capacity(stageWidth, stageHeight);
  const everyone = usePlaces(room, without);
  const [at, setAt] = useState(0);
  const pages = Math.max(1, Math.ceil(everyone.length / room));
  const current = Math.min(at, pages - 1);
  const shown = everyone.slice(current * room, (current + 1) * room);
  useUnseen('camera', idsOf(everyone.filter((one) => !shown.includes(one))));
  // A last page that is not full has tiles as large as the others.
  const { columns, width, height } = fit(pages > 1 ? room : shown.length, stageWidth, stageHeight);
  const last = shown.length % columns; // this many tiles are in a last row that is not full: they are centred
  useLayoutEffect(() => { if (at !== current) setAt(current); }, [current]);
  return (
    <div class="pages">
      <div ref={grid} class="grid" style={{ '--columns': columns, '--width': `${width}px`, '--height': `${height}px` }}>
        {shown.map((who, place) => (
          <Tile key={who.participantId} who={who} speaking={speaking.has(who.participantId)} shift={last && place === shown.length - last ? columns - last + 1 : 0} />
        ))}
      </div>
      {pages > 1 && (
        <div class="pager">
          <button class="round small" data-action="previous" aria-label={say.previous} disabled={current === 0} onClick={() => setAt(current - 1)}><Icon name="previous" /></button>
          <span aria-live="polite">{say.page(current + 1, pages)}</span>
          <button class="round small" data-action="next" aria-label={say.next} disabled={current === pages - 1} onClick={() => setAt(current + 1)}><Icon name="next" /></button>
        </div>
      )}
    </div>
  );
}

function Strip({ speaking, without }: Places) {
  const everyone = usePlaces(STRIP_MAX, without);
  const hidden = everyone.slice(STRIP_MAX);
  useUnseen('camera', idsOf(hidden));
  return (
    <div class="strip" data-empty={everyone.length === 0} role="group" tabIndex={0} aria-label={say.stage}>
      {everyone.slice(0, STRIP_MAX).map((who) => <Tile key={who.participantId} who={who} speaking={speaking.has(who.participantId)} />)}
      {hidden.length > 0 && <button class="others" onClick={() => togglePanel('people')}>{say.others(hidden.length)}</button>}
    </div>
  );
}
