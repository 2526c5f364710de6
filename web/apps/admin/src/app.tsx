// Signing in, and which page is shown: `#/rooms/algebra` and the like.

import { useEffect, useRef, useState } from 'preact/hooks';
import { isSignedIn, onSignedOut, signIn, signOut } from './api';
import { Fault } from './parts';
import { Overview } from './pages/overview';
import { Rooms } from './pages/rooms';
import { Room } from './pages/room';
import { Meetings } from './pages/meetings';
import { Attendance } from './pages/attendance';
import { Webhooks } from './pages/webhooks';
import { TurnPage } from './pages/turn';
import { Errors } from './pages/errors';
import { Configuration } from './pages/configuration';
import { NetworkTest } from './pages/network';

const PAGES = [
  ['', 'Overview'], ['rooms', 'Rooms'], ['meetings', 'Meetings'], ['webhooks', 'Webhooks'], ['turn', 'TURN'], ['errors', 'Errors'],
  ['configuration', 'Configuration'], ['network', 'Network test'],
] as const;

const place = () => location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);

function Page({ at: [page, of] }: { at: string[] }) {
  switch (page) {
    case 'rooms': return of ? <Room session={of} /> : <Rooms />;
    case 'meetings': return of ? <Attendance meeting={of} /> : <Meetings />;
    case 'webhooks': return <Webhooks />;
    case 'turn': return <TurnPage />;
    case 'errors': return <Errors />;
    case 'configuration': return <Configuration />;
    case 'network': return <NetworkTest />;
    default: return <Overview />;
  }
}

export function App() {
  const [ready, setReady] = useState(isSignedIn());
  const [known, setKnown] = useState(isSignedIn());
  useEffect(() => {
    onSignedOut(() => setReady(false));
    // In open mode the server asks this machine for nothing.
    if (!known) signIn('').then(() => setReady(true), () => {}).finally(() => setKnown(true));
  }, []);
  if (!known) return null;
  return ready ? <Shell /> : <SignIn done={() => setReady(true)} />;
}

function SignIn({ done }: { done: () => void }) {
  const [fault, setFault] = useState('');
  const [busy, setBusy] = useState(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const shown = String(new FormData(event.currentTarget as HTMLFormElement).get('key') ?? '').trim();
    setBusy(true);
    try {
      await signIn(shown);
      done();
    } catch (error) {
      setFault(error instanceof Error ? error.message : String(error));
      setBusy(false);
    }
  };
  return (
    <main class="sign-in">
      <form class="card" onSubmit={submit}>
        <h1>Lyceum operations</h1>
        <label>
          Admin key or admin token
          <input name="key" type="password" autocomplete="current-password" required autofocus spellcheck={false} />
        </label>
        <Fault words={fault} />
        <button class="primary" disabled={busy}>Sign in</button>
        <p class="dim">The key is what <code>LYCEUM_ADMIN_KEY</code> says; a token is signed with your secret for the audience <code>lyceum-admin</code>.
          It stays in this tab and is forgotten when you close it.</p>
      </form>
    </main>
  );
}

function Shell() {
  const [at, setAt] = useState(place());
  const main = useRef<HTMLElement>(null);
  useEffect(() => {
    const moved = () => {
      setAt(place());
      // Who does not see the page hears that it is another.
      main.current?.focus();
    };
    window.addEventListener('hashchange', moved);
    return () => window.removeEventListener('hashchange', moved);
  }, []);
  const title = PAGES.find(([page]) => page === (at[0] ?? ''))?.[1] ?? 'Overview';
  useEffect(() => { document.title = `${at[1] ?? title} – Lyceum operations`; }, [title, at[1]]);
  // On a phone the names of the pages scroll sideways.
  useEffect(() => document.querySelector('nav [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' }), [title]);
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); main.current?.focus(); }}>Skip to content</a>
      <nav aria-label="Pages">
        <strong>Lyceum</strong>
        <ul>
          {PAGES.map(([page, name]) => (
            <li key={page}><a href={`#/${page}`} aria-current={page === (at[0] ?? '') ? 'page' : undefined}>{name}</a></li>
          ))}
        </ul>
        <button type="button" class="plain" onClick={signOut}>Sign out</button>
      </nav>
      <main id="main" ref={main} tabIndex={-1}><Page key={at.join('/')} at={at} /></main>
    </div>
  );
}
