// What the page itself knows, beside the call's and the devices' own state.

import type { Room } from '@lyceum/client';
import { Box } from '@lyceum/client/store';
import { randomId } from '@lyceum/client/token';
import { stored } from './storage';
import { claims, joinToken } from './token';

const query = new URLSearchParams(location.search);

export type Panel = 'none' | 'people' | 'chat' | 'settings' | 'stats';

/** What is asked before something is done that cannot be taken back. */
export interface Question {
  title: string;
  why?: string | undefined;
  answers: { label: string; danger?: boolean; action: string; press(): void }[];
}

export interface Notice {
  text: string;
  /** What one can do about it. */
  button?: { label: string; press(): void } | undefined;
}

/** Clockwise. */
export const CORNERS = ['top-left', 'top-right', 'bottom-right', 'bottom-left'] as const;
export type Corner = (typeof CORNERS)[number];

export interface PageState {
  view: 'lobby' | 'call' | 'ended';
  room: Room | null;
  sessionId: string;
  userName: string;
  /** In words. */
  endedBecause: string;
  notice: Notice | null;
  /** What a screen reader says: who comes and goes, and what is written while the chat is closed. */
  announced: string;
  panel: Panel;
  question: Question | null;
  dialog: 'none' | 'help' | 'attendance';
  unread: number;
  /** What is written in the chat and not sent. */
  draft: string;
  layout: 'grid' | 'speaker';
  /** What one wants to see large: a `participantId`, or `screen:` and one; empty: nothing. */
  pinned: string;
  /** Where one's own picture lies while there is one other. */
  corner: Corner;
  /** One does not want to see oneself. The others do. */
  selfHidden: boolean;
  audioOnly: boolean;
  shortcuts: boolean;
  /** What somebody expressed just now: `participantId` → an emoji. */
  reactions: ReadonlyMap<string, string>;
  /** The space bar is held. */
  pushing: boolean;
  unlockSound: (() => void) | null;
  /** The meeting that this page was in last and may see the attendance of; empty: none. */
  attended: string;
}

export const page = new Box<PageState>({
  view: 'lobby',
  room: null,
  sessionId: claims.sessionId ?? query.get('session') ?? stored('localStorage', 'lyceum.session'),
  userName: claims.name ?? query.get('name') ?? (stored('localStorage', 'lyceum.name') || claims.sub || ''),
  endedBecause: '',
  notice: null,
  announced: '',
  panel: 'none',
  question: null,
  dialog: 'none',
  unread: 0,
  draft: '',
  layout: 'grid',
  pinned: '',
  corner: CORNERS.find((one) => one === stored('localStorage', 'lyceum.corner')) ?? 'bottom-right',
  selfHidden: false,
  audioOnly: false,
  shortcuts: stored('localStorage', 'lyceum.shortcuts') !== 'off',
  reactions: new Map(),
  pushing: false,
  unlockSound: null,
  attended: '',
});

function ownUserId(): string {
  const given = claims.sub || query.get('user') || stored('sessionStorage', 'lyceum.user');
  const made = `user-${randomId()}`;
  return given || stored('sessionStorage', 'lyceum.user', made) || made;
}

export const userId = ownUserId();
export const isInstructor = joinToken() ? claims.role === 'instructor' : query.get('instructor') === '1';
export const wantedSession = claims.sessionId ?? query.get('session');

/** `?relay=1`, or `udp`, `tcp` or `tls`. */
export const relayWanted = (['1', 'udp', 'tcp', 'tls'] as const).find((one) => one === query.get('relay')) ?? '';

/**
 * Where others come in; empty: nobody knows. A token is for one person: then only the application has a link for all, which it
 * names as `joinUrl` in the session's metadata.
 */
export function inviteLink(session: string, metadata: unknown): string {
  const named = metadata instanceof Object && 'joinUrl' in metadata ? String(metadata.joinUrl) : '';
  if (/^https?:\/\//.test(named) && URL.canParse(named)) return named;
  return joinToken() ? '' : `${location.origin}${location.pathname}?${new URLSearchParams({ session })}`;
}

/** The address under which a reload comes back to this session. */
export function addressOf(session: string): string {
  const next = new URLSearchParams(query);
  next.set('session', session);
  return `?${next}`;
}

const NOTICE_MS = 8_000;
/** So long one may think about what a notice asks. */
const QUESTION_MS = 60_000;
let noticeTimer = 0;

export function tell(text: string, button?: Notice['button']): void {
  clearTimeout(noticeTimer);
  page.set({ notice: text ? { text, button: button && { ...button, press: () => { tell(''); button.press(); } } } : null });
  if (text) noticeTimer = window.setTimeout(() => tell(''), button ? QUESTION_MS : NOTICE_MS);
}

/** Opens a panel, or closes it: then the focus goes back to its button, or to where it is chosen. */
export function togglePanel(which: Exclude<Panel, 'none'>): void {
  const closes = page.state.panel === which;
  page.set({ panel: closes ? 'none' : which, ...(which === 'chat' && { unread: 0 }) });
  if (!closes) return;
  const buttons = ['more', which].map((action) => document.querySelector<HTMLElement>(`.bar [data-action="${action}"]`));
  buttons.reverse().find((one) => one?.getClientRects().length)?.focus();
}

export function ask(question: Question): void {
  page.set({ question });
}

export function setShortcuts(on: boolean): void {
  page.set({ shortcuts: on });
  stored('localStorage', 'lyceum.shortcuts', on ? 'on' : 'off');
}

/** Pins what is not pinned, and the other way round. */
export function togglePin(key: string): void {
  page.set({ pinned: page.state.pinned === key ? '' : key });
}

export const toggleLayout = (): void => page.set({ layout: page.state.layout === 'grid' ? 'speaker' : 'grid' });

export function putSelf(corner: Corner): void {
  page.set({ corner });
  stored('localStorage', 'lyceum.corner', corner);
}

/** Whoever puts their picture away by a button that goes with it has the focus where it can be brought back. */
export function hideSelf(hidden: boolean): void {
  page.set({ selfHidden: hidden });
  if (hidden) document.querySelector<HTMLElement>('.bar [data-action="more"]')?.focus();
}

export function toggleAudioOnly(): void {
  const on = !page.state.audioOnly;
  page.set({ audioOnly: on });
  page.state.room?.setAudioOnly(on);
}
