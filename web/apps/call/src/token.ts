// The join token with which an application sends people here: in the address behind `#`, so that no server is told of it.

/** What a token says of its bearer, for this page to show: the server alone finds out whether it is true. */
export interface Claims {
  sessionId?: string;
  sub?: string;
  name?: string;
  role?: string;
}

function claimsOf(token: string): Claims {
  try {
    const letters = atob((token.split('.')[1] ?? '').replace(/-/g, '+').replace(/_/g, '/'));
    const found: unknown = JSON.parse(new TextDecoder().decode(Uint8Array.from(letters, (one) => one.charCodeAt(0))));
    const said = (name: keyof Claims) => {
      const value = (found as Record<string, unknown> | null)?.[name];
      return typeof value === 'string' && value ? { [name]: value } : {};
    };
    return { ...said('sessionId'), ...said('sub'), ...said('name'), ...said('role') };
  } catch {
    return {}; // the server says what is wrong with it
  }
}

/** Takes the token out of the address, so that nobody passes it on with a bookmark or a copied link. Empty: there is none. */
function take(): string {
  const token = new URLSearchParams(location.hash.slice(1)).get('token') ?? '';
  if (token) history.replaceState(null, '', location.pathname + location.search);
  return token;
}

// A new link that is opened in this tab changes nothing but the part behind `#`, which loads no page.
addEventListener('hashchange', () => { if (new URLSearchParams(location.hash.slice(1)).has('token')) location.reload(); });

let token = take();
export const claims = claimsOf(token);
export const joinToken = (): string => token;
export function renewToken(fresh: string): void {
  token = fresh;
}
