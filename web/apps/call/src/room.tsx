// The call: tiles, the bar below them and the panels beside them.

import { useEffect, useRef } from 'preact/hooks';
import { canShareScreen } from '@lyceum/client/devices';
import { Icon, type IconName } from './icons';
import { useLayout } from './layout';
import { Sound } from './media';
import { ChatPanel, PeoplePanel, SettingsPanel } from './panels';
import { ScreenTile, Tile } from './tile';
import {
  camera, hand, leave, may, mayRaiseHand, microphoneOn, ownId, panel, participants, permissions, screen, sessionId, shortcuts, status, toggleCamera, toggleHand,
  toggleMicrophone, togglePanel, toggleScreen, tracks, unread, waitsBecause,
} from './state';

const KEYS: Record<string, () => void> = {
  m: toggleMicrophone,
  v: toggleCamera,
  c: () => { if (permissions.value.chat) togglePanel('chat'); },
  p: () => togglePanel('people'),
};

function onKey(event: KeyboardEvent): void {
  const typing = event.target instanceof HTMLElement && event.target.closest('input, textarea, select');
  if (event.key === 'Escape' && panel.value !== 'none') return togglePanel(panel.value);
  if (typing || !shortcuts.value || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  KEYS[event.key.toLowerCase()]?.();
}

export function Room() {
  const main = useRef<HTMLElement>(null);
  const grid = useRef<HTMLDivElement>(null);
  useEffect(() => {
    main.current?.focus(); // the button that brought us here is gone
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, []);
  const everyone = participants.value;
  const sharing = everyone.filter((one) => one.participantId !== ownId.value
    && tracks.value.some((track) => track.participantId === one.participantId && track.source === 'screen'));
  const { columns, width, height } = useLayout(grid, everyone.length);
  const last = everyone.length % columns; // this many tiles are in a last row that is not full: they are centred
  return (
    <main ref={main} tabIndex={-1} aria-label={`Call ${sessionId.value}`} class={`room ${sharing.length ? 'with-screen' : ''} ${panel.value === 'none' ? '' : 'with-panel'}`}>
      {screen.value && (
        <p class="presenting">
          <Icon name="screen" /><span>You are sharing your screen</span>
          <button onClick={toggleScreen}>Stop sharing</button>
        </p>
      )}
      <section class="stage" aria-label="People">
        {sharing.length > 0 && <div class="screens">{sharing.map((who) => <ScreenTile key={who.participantId} who={who} />)}</div>}
        <div ref={grid} class="grid" style={{ '--columns': columns, '--width': `${width}px`, '--height': `${height}px` }}>
          {everyone.map((who, at) => (
            <Tile key={who.participantId} who={who} shift={last && at === everyone.length - last ? columns - last + 1 : 0} />
          ))}
        </div>
      </section>
      {panel.value === 'people' && <PeoplePanel />}
      {panel.value === 'chat' && <ChatPanel />}
      {panel.value === 'settings' && <SettingsPanel />}
      <Bar />
      <div hidden>
        {tracks.value.filter((one) => one.track.kind === 'audio').map((one) => <Sound key={one.trackId} track={one.track} />)}
      </div>
      {status.value !== 'joined' && (
        <div class={`overlay ${status.value}`} role="alert">
          <span class="spinner" aria-hidden="true" />
          <p>{waitsBecause.value || (status.value === 'connecting' ? 'Joining…' : 'The connection was lost. Reconnecting…')}</p>
          {status.value === 'connecting' && <button onClick={leave}>Leave</button>}
        </div>
      )}
    </main>
  );
}

interface ToolProps {
  action: string;
  icon: IconName;
  label: string;
  shortcut?: string;
  pressed?: boolean;
  off?: boolean;
  badge?: number;
  onClick(): void;
}

function Tool({ action, icon, label, shortcut, pressed, off, badge, onClick }: ToolProps) {
  return (
    <button class={`round ${off ? 'off' : ''} ${pressed ? 'pressed' : ''}`} data-action={action} aria-label={badge ? `${label}, ${badge} unread` : label}
      aria-pressed={pressed} aria-keyshortcuts={shortcut} title={shortcut ? `${label} (${shortcut.toUpperCase()})` : label} onClick={onClick}>
      <Icon name={icon} />
      {badge ? <span class="badge" aria-hidden="true">{badge > 99 ? '99+' : badge}</span> : null}
    </button>
  );
}

function Bar() {
  const [mic, cam, { chat }] = [microphoneOn.value, camera.value !== null, permissions.value];
  return (
    <nav class="bar" aria-label="Call controls">
      <h1 class="session">{sessionId.value}</h1>
      <div class="tools">
        {may('microphone') && <Tool action="mic" icon={mic ? 'mic' : 'micOff'} off={!mic} shortcut="m" onClick={toggleMicrophone}
          label={mic ? 'Turn microphone off' : 'Turn microphone on'} />}
        {may('camera') && <Tool action="camera" icon={cam ? 'camera' : 'cameraOff'} off={!cam} shortcut="v" onClick={toggleCamera}
          label={cam ? 'Turn camera off' : 'Turn camera on'} />}
        {canShareScreen() && may('screen') && <Tool action="share" icon="screen" pressed={screen.value !== null} onClick={toggleScreen}
          label={screen.value ? 'Stop sharing your screen' : 'Share your screen'} />}
        {mayRaiseHand.value && <Tool action="hand" icon="hand" pressed={hand.value} onClick={toggleHand} label={hand.value ? 'Lower your hand' : 'Raise your hand'} />}
        <Tool action="people" icon="people" pressed={panel.value === 'people'} shortcut="p" onClick={() => togglePanel('people')} label="People" />
        {chat && <Tool action="chat" icon="chat" pressed={panel.value === 'chat'} shortcut="c" badge={unread.value} onClick={() => togglePanel('chat')} label="Chat" />}
        <Tool action="settings" icon="settings" pressed={panel.value === 'settings'} onClick={() => togglePanel('settings')} label="Settings" />
        <button class="round leave" data-action="leave" aria-label="Leave the call" title="Leave the call" onClick={leave}><Icon name="leave" /></button>
      </div>
      <span class="count">{participants.value.length} here</span>
    </nav>
  );
}
