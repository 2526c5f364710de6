// The call: tiles, the bar below them and the panels beside them.

import { useEffect } from 'preact/hooks';
import { Icon, type IconName } from './icons';
import { Sound } from './media';
import { ChatPanel, PeoplePanel } from './panels';
import { ScreenTile, Tile } from './tile';
import {
  camera, hand, leave, microphoneOn, ownId, panel, participants, screen, sessionId, status, toggleCamera, toggleHand,
  toggleMicrophone, togglePanel, toggleScreen, tracks, unread,
} from './state';

const KEYS: Record<string, () => void> = {
  m: toggleMicrophone,
  v: toggleCamera,
  c: () => togglePanel('chat'),
  p: () => togglePanel('people'),
};

function onKey(event: KeyboardEvent): void {
  const typing = event.target instanceof HTMLElement && event.target.closest('input, textarea');
  if (event.key === 'Escape' && panel.value !== 'none') return togglePanel(panel.value);
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  KEYS[event.key.toLowerCase()]?.();
}

export function Room() {
  useEffect(() => {
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, []);
  const everyone = participants.value;
  const sharing = everyone.filter((one) => (one.participantId === ownId.value
    ? screen.value !== null
    : tracks.value.some((track) => track.participantId === one.participantId && track.source === 'screen')));
  return (
    <main class={`room ${sharing.length ? 'with-screen' : ''} ${panel.value === 'none' ? '' : 'with-panel'}`}>
      <section class="stage" aria-label={`Call ${sessionId.value}`}>
        {sharing.length > 0 && <div class="screens">{sharing.map((who) => <ScreenTile key={who.participantId} who={who} />)}</div>}
        <div class={`grid n-${Math.min(Math.ceil(Math.sqrt(everyone.length)), 6)}`} data-count={everyone.length}>
          {everyone.map((who) => <Tile key={who.participantId} who={who} />)}
        </div>
      </section>
      {panel.value === 'people' && <PeoplePanel />}
      {panel.value === 'chat' && <ChatPanel />}
      <Bar />
      <div hidden>
        {tracks.value.filter((one) => one.track.kind === 'audio').map((one) => <Sound key={one.trackId} track={one.track} />)}
      </div>
      {status.value !== 'joined' && (
        <div class="overlay" role="alert">
          <span class="spinner" aria-hidden="true" />
          <p>{status.value === 'connecting' ? 'Joining…' : 'The connection was lost. Reconnecting…'}</p>
          <button onClick={leave}>Leave</button>
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
    <button class={`round ${off ? 'off' : ''} ${pressed ? 'pressed' : ''}`} data-action={action} aria-label={label}
      aria-pressed={pressed} aria-keyshortcuts={shortcut} title={shortcut ? `${label} (${shortcut.toUpperCase()})` : label} onClick={onClick}>
      <Icon name={icon} />
      {badge ? <span class="badge" aria-label={`${badge} unread`}>{badge > 99 ? '99+' : badge}</span> : null}
    </button>
  );
}

function Bar() {
  const [mic, cam] = [microphoneOn.value, camera.value !== null];
  return (
    <nav class="bar" aria-label="Call controls">
      <span class="session">{sessionId.value}</span>
      <div class="tools">
        <Tool action="mic" icon={mic ? 'mic' : 'micOff'} off={!mic} shortcut="m" onClick={toggleMicrophone}
          label={mic ? 'Turn microphone off' : 'Turn microphone on'} />
        <Tool action="camera" icon={cam ? 'camera' : 'cameraOff'} off={!cam} shortcut="v" onClick={toggleCamera}
          label={cam ? 'Turn camera off' : 'Turn camera on'} />
        <Tool action="share" icon="screen" pressed={screen.value !== null} onClick={toggleScreen}
          label={screen.value ? 'Stop sharing your screen' : 'Share your screen'} />
        <Tool action="hand" icon="hand" pressed={hand.value} onClick={toggleHand} label={hand.value ? 'Lower your hand' : 'Raise your hand'} />
        <Tool action="people" icon="people" pressed={panel.value === 'people'} shortcut="p" onClick={() => togglePanel('people')} label="People" />
        <Tool action="chat" icon="chat" pressed={panel.value === 'chat'} shortcut="c" badge={unread.value} onClick={() => togglePanel('chat')} label="Chat" />
        <button class="round leave" data-action="leave" aria-label="Leave the call" title="Leave the call" onClick={leave}><Icon name="leave" /></button>
      </div>
      <span class="count">{participants.value.length} here</span>
    </nav>
  );
}
