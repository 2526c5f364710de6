// The keyboard: single keys, which can be switched off (WCAG 2.1.4), and two chords, which work while one writes, too.

import { canShareScreen } from '@lyceum/client';
import { media, permissionsOf, toggleCamera, toggleHand, toggleMicrophone, toggleScreen } from './conduct';
import { page, toggleLayout, togglePanel } from './page';

const KEYS: Record<string, () => void> = {
  m: () => void toggleMicrophone(),
  v: () => void toggleCamera(),
  d: () => { if (canShareScreen()) void toggleScreen(); },
  r: toggleHand,
  c: () => { if (permissionsOf(page.state.room).chat) togglePanel('chat'); },
  p: () => togglePanel('people'),
  w: toggleLayout,
  '?': () => page.set({ dialog: 'help' }),
};

const CHORDS: Record<string, () => void> = { d: () => void toggleMicrophone(), e: () => void toggleCamera() };

const within = (event: KeyboardEvent, selector: string): boolean => event.target instanceof HTMLElement && event.target.closest(selector) !== null;

function onKey(event: KeyboardEvent): void {
  const { panel, shortcuts, dialog, question } = page.state;
  if (dialog !== 'none' || question) return; // a dialog has its own keys
  if (event.key === 'Escape' && panel !== 'none' && !document.querySelector(':popover-open')) return togglePanel(panel);
  if (event.repeat && event.key === ' ' && page.state.pushing) event.preventDefault(); // else the page scrolls for as long as it is held
  if (!shortcuts || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey) {
    if (!CHORDS[key]) return;
    event.preventDefault(); // bookmarks, and the search bar
    return CHORDS[key]();
  }
  if (event.ctrlKey || event.metaKey || within(event, 'input:not([type="checkbox"]), textarea, select')) return;
  if (key !== ' ') return KEYS[key]?.();
  if (within(event, 'button, a, input, summary, [popover]') || media.state.microphoneOn || !permissionsOf(page.state.room).publish.includes('microphone')) return;
  event.preventDefault();
  page.set({ pushing: true });
  void media.setMicrophone(true);
}

function release(): void {
  if (!page.state.pushing) return;
  page.set({ pushing: false });
  void media.setMicrophone(false);
}

/** Listens until the function that it gives back is called. */
export function listenForKeys(): () => void {
  const up = (event: KeyboardEvent): void => { if (event.key === ' ') release(); };
  addEventListener('keydown', onKey);
  addEventListener('keyup', up);
  addEventListener('blur', release);
  return () => {
    release();
    removeEventListener('keydown', onKey);
    removeEventListener('keyup', up);
    removeEventListener('blur', release);
  };
}
