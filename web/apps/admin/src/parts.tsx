// What several pages are made of.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

export const Fault = ({ words }: { words: string }) => (words ? <p class="fault" role="alert">{words}</p> : null);

export const Empty = ({ children }: { children: ComponentChildren }) => <p class="empty">{children}</p>;

export function Card({ title, children, aside }: { title: string; children: ComponentChildren; aside?: ComponentChildren }) {
  return (
    <section class="card">
      <header><h2>{title}</h2>{aside}</header>
      {children}
    </section>
  );
}

export type Tone = 'good' | 'middling' | 'bad' | 'plain';
export const Pill = ({ tone, children }: { tone: Tone; children: ComponentChildren }) => <span class={`pill ${tone}`}>{children}</span>;

/** A table that scrolls in itself where it does not fit, also by keyboard. */
export function Table({ label, heads, children }: { label: string; heads: string[]; children: ComponentChildren }) {
  return (
    <div class="scroll" role="region" aria-label={label} tabIndex={0}>
      <table>
        <thead><tr>{heads.map((head) => <th scope="col" key={head}>{head || <span class="spoken">Actions</span>}</th>)}</tr></thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

export interface Question {
  title: string;
  words: string;
  /** What the button says that does it. */
  yes: string;
  act: () => Promise<unknown>;
}

/** Asks before something is done that cannot be undone. */
export function Confirm({ question, close }: { question: Question; close: (done: boolean) => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [fault, setFault] = useState('');
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    const shown = dialog.current;
    shown?.showModal();
    return () => shown?.close(); // gives the focus back to where it was
  }, []);
  const act = async () => {
    setBusy(true);
    try {
      await question.act();
      close(true);
    } catch (error) {
      setFault(error instanceof Error ? error.message : String(error));
      setBusy(false);
    }
  };
  return (
    <dialog ref={dialog} aria-labelledby="question" onClose={() => close(false)}>
      <h2 id="question">{question.title}</h2>
      <p>{question.words}</p>
      <Fault words={fault} />
      <div class="buttons">
        <button type="button" data-action="no" onClick={() => close(false)}>Cancel</button>
        <button type="button" class="danger" data-action="yes" disabled={busy} onClick={act}>{question.yes}</button>
      </div>
    </dialog>
  );
}
