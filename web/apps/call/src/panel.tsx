// What all panels beside the call have.

import type { ComponentChildren } from 'preact';
import { Icon } from './icons';
import { togglePanel, type Panel } from './page';
import { words } from './strings';

export function Side({ of, title, children }: { of: Exclude<Panel, 'none'>; title: string; children: ComponentChildren }) {
  return (
    <aside class={`panel ${of}`} aria-label={title}>
      <header>
        <h2>{title}</h2>
        <button class="plain" aria-label={words.close(of)} onClick={() => togglePanel(of)}><Icon name="close" /></button>
      </header>
      {children}
    </aside>
  );
}
