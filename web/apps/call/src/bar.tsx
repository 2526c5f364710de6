// The controls below the call, and the menu of those that are needed seldom.

import type { ComponentChildren } from 'preact';
import { useRef } from 'preact/hooks';
import { canShareScreen } from '@lyceum/client';
import { useHands, useLocalMedia, useRoomState, useStore } from '@lyceum/react';
import { endForAll, leave, moderate, muteAll, react, toggleCamera, toggleHand, toggleMicrophone, toggleScreen } from './conduct';
import { copy } from './copy';
import { Icon, type IconName } from './icons';
import { hideSelf, inviteLink, page, toggleAudioOnly, toggleLayout, togglePanel } from './page';
import { words } from './strings';

const say = words.bar;

interface ToolProps {
  action: string;
  icon: IconName;
  label: string;
  shortcut?: string;
  /** For a name that stays the same; one that says what a press does has `on`. */
  pressed?: boolean;
  on?: boolean;
  off?: boolean;
  /** A number beside the icon, and what it means. */
  badge?: number;
  badgeLabel?: string;
  /** Does not fit on a phone: the menu has it there. */
  wide?: boolean;
  onClick(): void;
}

function Tool({ action, icon, label, shortcut, pressed, on, off, badge, badgeLabel, wide, onClick }: ToolProps) {
  return (
    <button class={`round ${off ? 'off' : ''} ${pressed || on ? 'pressed' : ''} ${wide ? 'wide' : ''}`} data-action={action} aria-label={badge ? `${label}, ${badgeLabel}` : label}
      aria-pressed={pressed} aria-keyshortcuts={shortcut} title={shortcut ? `${label} (${shortcut.toUpperCase()})` : label} onClick={onClick}>
      <Icon name={icon} />
      {badge ? <span class="badge" aria-hidden="true">{badge > 99 ? '99+' : badge}</span> : null}
    </button>
  );
}

export function Bar() {
  const mic = useLocalMedia((state) => state.microphoneOn);
  const cam = useLocalMedia((state) => state.camera !== null);
  const sharing = useLocalMedia((state) => state.screen !== null);
  const { publish, chat } = useRoomState((state) => state.permissions);
  const role = useRoomState((state) => state.role);
  const count = useRoomState((state) => state.participants.length);
  const waiting = useRoomState((state) => state.waiting.length);
  const locked = useRoomState((state) => state.rules.locked);
  const panel = useStore(page, (state) => state.panel);
  const unread = useStore(page, (state) => state.unread);
  const sessionId = useStore(page, (state) => state.sessionId);
  const { raised } = useHands();
  return (
    <nav class="bar" aria-label={say.label}>
      <div class="where">
        <h1 class="session">{sessionId}</h1>
        {locked && <span class="dim" role="img" aria-label={say.locked} title={say.locked}><Icon name="lock" /></span>}
      </div>
      <div class="tools">
        {publish.includes('microphone') && <Tool action="mic" icon={mic ? 'mic' : 'micOff'} off={!mic} shortcut="m" onClick={toggleMicrophone} label={mic ? say.micOff : say.micOn} />}
        {publish.includes('camera') && <Tool action="camera" icon={cam ? 'camera' : 'cameraOff'} off={!cam} shortcut="v" onClick={toggleCamera} label={cam ? say.cameraOff : say.cameraOn} />}
        {canShareScreen() && publish.includes('screen') && <Tool action="share" icon="screen" on={sharing} shortcut="d" wide onClick={toggleScreen} label={sharing ? say.unshare : say.share} />}
        {/* Where only the session's rules switch the chat off, hands are left. */}
        {(chat || role !== 'observer') && <Tool action="hand" icon="hand" on={raised} shortcut="r" onClick={toggleHand} label={raised ? say.lower : say.raise} />}
        <Tool action="people" icon="people" pressed={panel === 'people'} shortcut="p" badge={waiting} badgeLabel={say.wait(waiting)} onClick={() => togglePanel('people')} label={say.people} />
        {chat && <Tool action="chat" icon="chat" pressed={panel === 'chat'} shortcut="c" badge={unread} badgeLabel={say.unread(unread)} onClick={() => togglePanel('chat')} label={say.chat} />}
        <More />
        <button class="round leave" data-action="leave" aria-label={say.leave} title={say.leave} onClick={leave}><Icon name="leave" /></button>
      </div>
      <span class="count">{say.here(count)}</span>
    </nav>
  );
}

function Item({ action, icon, children, pressed, narrow, danger, onClick }: {
  action: string; icon: IconName; children: ComponentChildren; pressed?: boolean; narrow?: boolean; danger?: boolean; onClick(): void;
}) {
  return (
    <li class={narrow ? 'narrow' : ''}>
      <button class={danger ? 'danger' : ''} data-action={action} aria-pressed={pressed} onClick={onClick}><Icon name={icon} /><span>{children}</span></button>
    </li>
  );
}

const EMOJIS = ['👍', '👏', '❤️', '😂', '😮', '🎉'];

function More() {
  const say = words.more;
  const menu = useRef<HTMLDivElement>(null);
  const layout = useStore(page, (state) => state.layout);
  const selfHidden = useStore(page, (state) => state.selfHidden);
  const others = useRoomState((state) => state.participants.length > 1);
  const audioOnly = useStore(page, (state) => state.audioOnly);
  const attended = useStore(page, (state) => state.attended);
  const sessionId = useStore(page, (state) => state.sessionId);
  const moderates = useRoomState((state) => state.permissions.moderate);
  const mayReact = useRoomState((state) => state.permissions.chat);
  const mayShare = useRoomState((state) => state.permissions.publish.includes('screen'));
  const sharing = useLocalMedia((state) => state.screen !== null);
  const locked = useRoomState((state) => state.rules.locked);
  const then = (act: () => void) => (): void => {
    if (menu.current?.matches(':popover-open')) menu.current.hidePopover();
    act();
  };
  const link = useRoomState((state) => inviteLink(sessionId, state.metadata));
  return (
    <>
      <button class="round" data-action="more" popovertarget="more" aria-label={words.bar.more} title={words.bar.more}><Icon name="more" /></button>
      <div ref={menu} id="more" class="menu" popover="auto" role="group" aria-label={words.bar.more}>
        {mayReact && (
          <div class="emojis" role="group" aria-label={say.react}>
            {EMOJIS.map((emoji) => <button key={emoji} data-action="react" aria-label={say.reactWith(emoji)} onClick={then(() => react(emoji))}>{emoji}</button>)}
          </div>
        )}
        <ul>
          {canShareScreen() && mayShare && <Item action="share-too" icon="screen" narrow onClick={then(() => void toggleScreen())}>{sharing ? words.bar.unshare : words.bar.share}</Item>}
          <Item action="layout" icon={layout === 'grid' ? 'speaker' : 'grid'} onClick={then(toggleLayout)}>{layout === 'grid' ? say.speaker : say.grid}</Item>
          {others && <Item action="self" icon="self" onClick={then(() => hideSelf(!selfHidden))}>{selfHidden ? words.self.show : words.self.hide}</Item>}
          <Item action="audio-only" icon="ear" pressed={audioOnly} onClick={then(toggleAudioOnly)}>{say.audioOnly}<small>{say.audioOnlyHint}</small></Item>
          {link && <Item action="invite" icon="link" onClick={then(() => void copy(link))}>{say.invite}</Item>}
          <Item action="settings" icon="settings" onClick={then(() => togglePanel('settings'))}>{say.settings}</Item>
          <Item action="stats" icon="stats" onClick={then(() => togglePanel('stats'))}>{say.stats}</Item>
          <Item action="help" icon="keyboard" onClick={then(() => page.set({ dialog: 'help' }))}>{say.help}</Item>
        </ul>
        {moderates && (
          <ul>
            <Item action="mute-all" icon="micOff" onClick={then(muteAll)}>{say.muteAll}</Item>
            <Item action="lock" icon={locked ? 'unlock' : 'lock'} onClick={then(() => void moderate({ action: locked ? 'unlock' : 'lock' }))}>{locked ? say.unlock : say.lock}</Item>
            {attended && <Item action="attendance" icon="attendance" onClick={then(() => page.set({ dialog: 'attendance' }))}>{say.attendance}</Item>}
            <Item action="end" icon="end" danger onClick={then(endForAll)}>{say.end}</Item>
          </ul>
        )}
      </div>
    </>
  );
}
