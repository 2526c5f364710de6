// What a join token says, and ids that are made here.

import type { Permissions, Source } from './protocol.ts';

/** What a token says of its bearer, for a page to show: the server alone finds out whether it is true. */
export interface Claims {
  sessionId?: string;
  /** The `userId`. */
  sub?: string;
  name?: string;
  role?: string;
  permissions?: Partial<Permissions>;
  /** When it ends, in seconds since 1970. */
  exp?: number;
}

/** Reads a join token. What is not there, or is not what it should be, is left out. */
export function claimsOf(token: string): Claims {
  try {
    const letters = atob((token.split('.')[1] ?? '').replace(/-/g, '+').replace(/_/g, '/'));
    const found: unknown = JSON.parse(new TextDecoder().decode(Uint8Array.from(letters, (one) => one.charCodeAt(0))));
    const body = (found ?? {}) as Record<string, unknown>;
    const said = (name: string) => (typeof body[name] === 'string' && body[name] ? { [name]: body[name] } : {});
    return {
      ...said('sessionId'), ...said('sub'), ...said('name'), ...said('role'),
      ...(typeof body['exp'] === 'number' && { exp: body['exp'] }),
      ...(body['permissions'] instanceof Object && { permissions: body['permissions'] }),
    };
  } catch {
    return {}; // the server says what is wrong with it
  }
}

const SOURCES: Source[] = ['camera', 'microphone', 'screen', 'screen-audio'];

/** What a role brings with it, until the server says what it is. */
export function permissionsOf(role: string | undefined, said: Partial<Permissions> = {}): Permissions {
  const observer = role === 'observer';
  return {
    publish: observer ? [] : SOURCES, subscribe: true, chat: !observer, data: !observer, moderate: role === 'instructor', ...said,
  };
}

/** 128 random bits. (`crypto.randomUUID` is there on secure pages only.) */
export function randomId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
