// The join token with which an application sends people here: in the address behind `#`, so that no server is told of it.

import { claimsOf } from '@lyceum/client';
import { stored } from './storage';

/** Goes with the tab: a reload needs the token again, and nobody else finds it. */
const KEY = 'lyceum.token';

/**
 * Takes the token out of the address, so that nobody passes it on with a bookmark or a copied link. An address that names another
 * session than the token that was here before does not mean it. Empty: there is none.
 */
function take(): string {
  const token = new URLSearchParams(location.hash.slice(1)).get('token') ?? '';
  if (token) {
    history.replaceState(null, '', location.pathname + location.search);
    stored('sessionStorage', KEY, token);
    return token;
  }
  const kept = stored('sessionStorage', KEY);
  const asked = new URLSearchParams(location.search).get('session');
  return asked && asked !== claimsOf(kept).sessionId ? '' : kept;
}

// A new link that is opened in this tab changes nothing but the part behind `#`, which loads no page.
addEventListener('hashchange', () => { if (new URLSearchParams(location.hash.slice(1)).has('token')) location.reload(); });

let token = take();
export const claims = claimsOf(token);
export const joinToken = (): string => token;
export function renewToken(fresh: string): void {
  token = fresh;
  stored('sessionStorage', KEY, fresh);
}
