// Who is here, who waits outside, whose hand is up, and what an instructor does about it.

import { useState } from 'preact/hooks';
import type { Participant, Source } from '@lyceum/client';
import { useParticipants, useRoomState, useStore, useWaiting } from '@lyceum/react';
import { moderate, muteAll } from './conduct';
import { copy } from './copy';
import { Icon } from './icons';
import { ask, inviteLink, page, togglePin } from './page';
import { Side } from './panel';
import './people.css';
import { words } from './strings';
import { RelayMark, hue, initials, sends } from './tile';

const say = words.people;

export default function PeoplePanel() {
  const everyone = useParticipants();
  const moderates = useRoomState((state) => state.permissions.moderate);
  return (
    <Side of="people" title={say.title(everyone.length)}>
      <div class="scroll">
        <Invite />
        {moderates && <WaitingList />}
        <Hands moderates={moderates} />
        <section>
          <header class="row">
            <h3 class="grow">{say.everyone}</h3>
            {moderates && everyone.length > 1 && <button class="small" data-action="mute-everyone" onClick={muteAll}>{say.muteAll}</button>}
          </header>
          <ul>{everyone.map((who) => <Person key={who.participantId} who={who} moderates={moderates} />)}</ul>
        </section>
      </div>
    </Side>
  );
}

function Invite() {
  const session = useStore(page, (state) => state.sessionId);
  const link = useRoomState((state) => inviteLink(session, state.metadata));
  const moderates = useRoomState((state) => state.permissions.moderate);
  if (!link) return moderates ? <p class="dim" data-invite="none">{say.inviteEach}</p> : null;
  return (
    <label class="invite">
      {say.invite}
      <span class="row">
        <input name="invite" readOnly value={link} onFocus={(event) => event.currentTarget.select()} />
        <button type="button" class="small" data-action="copy-invite" onClick={() => void copy(link)}>{words.copy}</button>
      </span>
    </label>
  );
}

function WaitingList() {
  const { waiting, admit } = useWaiting();
  if (!waiting.length) return null;
  return (
    <section class="waiting-list">
      <header class="row">
        <h3 class="grow">{say.waiting(waiting.length)}</h3>
        {waiting.length > 1 && <button class="small" data-action="admit-all" onClick={() => void admit()}>{say.admitAll}</button>}
      </header>
      <ul>
        {waiting.map(({ waitingId, userId, userName }) => (
          <li key={waitingId} data-waiting={userId}>
            <span class="grow">{userName}</span>
            <button class="small" data-action="deny" aria-label={say.denyOf(userName)} onClick={() => void moderate({ action: 'remove', participantId: waitingId })}>{say.deny}</button>
            <button class="small primary" data-action="admit" aria-label={say.admitOf(userName)} onClick={() => void admit(waitingId)}>{say.admit}</button>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** In the order in which they were raised: whose turn it is. */
function Hands({ moderates }: { moderates: boolean }) {
  const raised = useRoomState((state) => state.hands.flatMap((id) => state.participants.find((one) => one.participantId === id) ?? []));
  if (!raised.length) return null;
  return (
    <section class="hands">
      <header class="row">
        <h3 class="grow">{say.hands(raised.length)}</h3>
        {moderates && raised.length > 1 && <button class="small" data-action="lower-all" onClick={() => void moderate({ action: 'lower-hands' })}>{say.lowerAll}</button>}
      </header>
      <ol>
        {raised.map(({ participantId, userId, userName }, at) => (
          <li key={participantId} data-hand={userId}>
            <b class="place" aria-hidden="true">{at + 1}</b>
            <span class="grow">{userName}</span>
            {moderates && (
              <button class="plain" data-action="lower" aria-label={say.lowerOf(userName)} title={say.lower}
                onClick={() => void moderate({ action: 'lower-hands', participantId })}><Icon name="hand" /></button>
            )}
          </li>
        ))}
      </ol>
    </section>
  );
}

function Person({ who, moderates }: { who: Participant; moderates: boolean }) {
  const own = useRoomState((state) => state.ownId === who.participantId);
  const heard = sends(who, 'microphone');
  const seen = sends(who, 'camera');
  return (
    <li data-person={who.userId}>
      <span class={`small-initials hue-${hue(who.userId)}`} aria-hidden="true">{initials(who.userName)}</span>
      <span class="grow">
        {own ? words.you(who.userName) : who.userName}
        {who.isInstructor && <small>{say.instructor}</small>}
        {who.role === 'observer' && <small>{say.observer}</small>}
        {own && <RelayMark />}
        {who.state === 'reconnecting' && <small>{words.tile.away}</small>}
      </span>
      {who.handRaised && <span class="raised" role="img" aria-label={words.tile.hand}><Icon name="hand" /></span>}
      {!seen && <span class="dim" role="img" aria-label={words.tile.cameraOff}><Icon name="cameraOff" /></span>}
      <span class={heard ? '' : 'muted'} role="img" aria-label={heard ? words.tile.micOn : words.tile.micOff}><Icon name={heard ? 'mic' : 'micOff'} /></span>
      {!own && <Actions who={who} moderates={moderates} heard={heard} seen={seen} />}
    </li>
  );
}

/** What can be done about one person. */
function Actions({ who, moderates, heard, seen }: { who: Participant; moderates: boolean; heard: boolean; seen: boolean }) {
  const { participantId, userName } = who;
  const pinned = useStore(page, (state) => state.pinned === participantId);
  const [open, setOpen] = useState(false); // five hundred menus would be many
  const menu = `of-${participantId}`;
  const mute = (source: Source) => () => void moderate({ action: 'mute', participantId, source });
  const askFor = (source: Source) => () => void moderate({ action: 'ask-unmute', participantId, source });
  const entries: [action: string, label: string, act: () => void][] = [['pin-person', pinned ? say.unpin : say.pin, () => togglePin(participantId)]];
  if (moderates) {
    entries.push(heard ? ['mute', say.mute, mute('microphone')] : ['ask-unmute', say.askUnmute, askFor('microphone')]);
    entries.push(seen ? ['camera-off', say.cameraOff, mute('camera')] : ['ask-camera', say.askCamera, askFor('camera')]);
    if (sends(who, 'screen')) entries.push(['stop-screen', say.stopScreen, mute('screen')]);
    if (who.handRaised) entries.push(['lower-hand', say.lower, () => void moderate({ action: 'lower-hands', participantId })]);
    entries.push(who.isInstructor
      ? ['demote', say.demote, () => void moderate({ action: 'promote', participantId, role: 'participant' })]
      : ['promote', say.promote, () => ask({
        title: words.ask.promote(userName), why: words.ask.promoteWhy,
        answers: [{ label: words.ask.yes.promote, action: 'confirm-promote', press: () => void moderate({ action: 'promote', participantId, role: 'instructor' }) }],
      })]);
    entries.push(['remove', say.remove, () => ask({
      title: words.ask.remove(userName), why: words.ask.removeWhy,
      answers: [{ label: words.ask.yes.remove, danger: true, action: 'confirm-remove', press: () => void moderate({ action: 'remove', participantId }) }],
    })]);
  }
  return (
    <>
      <button class="plain" data-action="actions" popovertarget={menu} aria-label={say.actions(userName)} title={say.actions(userName)}><Icon name="more" /></button>
      <div id={menu} class="menu of-person" popover="auto" role="group" aria-label={say.actions(userName)} onBeforeToggle={(event) => setOpen(event.newState === 'open')} onToggle={(event) => placeByButton(event.currentTarget, event.newState)}>
        <ul>
          {open && entries.map(([action, label, act]) => (
            <li key={action}>
              <button class={action === 'remove' ? 'danger' : ''} data-action={action} onClick={(event) => {
                event.currentTarget.closest<HTMLElement>('[popover]')?.hidePopover();
                act();
              }}><span>{label}</span></button>
            </li>
          ))}
        </ul>
      </div>
    </>
  );
}

/** Puts the menu below its button, or above it where there is more room. */
function placeByButton(menu: HTMLElement, state: string): void {
  if (state !== 'open') return;
  const button = document.querySelector(`[popovertarget="${menu.id}"]`)?.getBoundingClientRect();
  if (!button) return;
  const below = innerHeight - button.bottom > menu.offsetHeight + 8;
  menu.style.top = `${below ? button.bottom + 4 : Math.max(8, button.top - menu.offsetHeight - 4)}px`;
  menu.style.left = `${Math.max(8, button.right - menu.offsetWidth)}px`;
}
