// What stands before everything else until it is answered or closed.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { useStore } from '@lyceum/react';
import { Icon } from './icons';
import { page } from './page';
import { words } from './strings';

/** The browser keeps the focus inside, and gives it back; Escape and a click beside it close it. */
export function Dialog({ title, className = '', close, children }: { title: string; className?: string; close(): void; children: ComponentChildren }) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = element.current;
    const before = document.activeElement;
    dialog?.showModal();
    return () => {
      dialog?.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog ref={element} class={className} aria-label={title} onCancel={(event) => { event.preventDefault(); close(); }}
      onClick={(event) => { if (event.target === element.current) close(); }}>
      <div class="inside">
        <header>
          <h2>{title}</h2>
          <button class="plain" aria-label={words.close(title)} onClick={close}><Icon name="close" /></button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

/** Asks before something that cannot be taken back. */
export function Asked() {
  const question = useStore(page, (state) => state.question);
  if (!question) return null;
  const close = (): void => page.set({ question: null });
  return (
    <Dialog key={question.title} title={question.title} className="question" close={close}>
      {question.why && <p>{question.why}</p>}
      <div class="answers">
        <button data-action="cancel" onClick={close}>{words.cancel}</button>
        {question.answers.map(({ label, danger, action, press }) => (
          <button key={action} class={danger ? 'danger' : 'primary'} data-action={action} onClick={() => { close(); press(); }}>{label}</button>
        ))}
      </div>
    </Dialog>
  );
}
