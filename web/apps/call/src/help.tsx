// The list of keys; loaded when it is asked for.

import { useStore } from '@lyceum/react';
import { Dialog } from './dialogs';
import { page } from './page';
import { words } from './strings';

const say = words.help;
const chord = /Mac|iPhone|iPad/.test(navigator.userAgent) ? '⌘' : 'Ctrl';

export default function Help() {
  const on = useStore(page, (state) => state.shortcuts);
  return (
    <Dialog title={say.title} className="help" close={() => page.set({ dialog: 'none' })}>
      {!on && <p class="dim">{say.off}</p>}
      <dl>
        {say.keys.map(([key, what]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{what}</dd></div>)}
        {say.chords.map(([key, what]) => <div key={what}><dt><kbd>{chord}</kbd> <kbd>{key}</kbd></dt><dd>{what}</dd></div>)}
      </dl>
    </Dialog>
  );
}
