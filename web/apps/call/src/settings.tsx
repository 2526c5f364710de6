import { useStore } from '@lyceum/react';
import { page, setShortcuts, toggleAudioOnly } from './page';
import { Side } from './panel';
import { Blur, Meter, Pickers } from './pickers';
import { words } from './strings';

export function SettingsPanel() {
  const shortcuts = useStore(page, (state) => state.shortcuts);
  const audioOnly = useStore(page, (state) => state.audioOnly);
  return (
    <Side of="settings" title={words.settings.title}>
      <div class="choices">
        <Pickers />
        <Meter />
        <Blur />
        <label class="check">
          <input type="checkbox" name="audio-only" checked={audioOnly} onChange={toggleAudioOnly} />
          <span>{words.more.audioOnly}<small>{words.more.audioOnlyHint}</small></span>
        </label>
        <label class="check">
          <input type="checkbox" name="shortcuts" checked={shortcuts} onChange={(event) => setShortcuts(event.currentTarget.checked)} />
          <span>{words.settings.shortcuts}<small>{words.settings.shortcutsHint}</small></span>
        </label>
      </div>
    </Side>
  );
}
