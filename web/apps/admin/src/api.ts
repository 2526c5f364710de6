// What the pages ask of the server, with the operator's credentials in a header: never in a URL, a cookie or a log.

const KEY = 'lyceum-admin';
/** Longer than the server's own deadline. */
const ANSWER_MAX_MS = 20_000;

/** A refusal: `code` is stable, `message` says what to do. */
export class Refused extends Error {
  constructor(readonly status: number, readonly code: string, message: string) {
    super(message);
  }
}

/** `null`: nobody has signed in; empty: the server is open to this machine. */
let shown: string | null = sessionStorage.getItem(KEY);
let signedOut = () => {};

export const isSignedIn = () => shown !== null;
/** Calls `then` when the server does not take the credentials any more. */
export const onSignedOut = (then: () => void) => { signedOut = then; };

export function signOut() {
  shown = null;
  sessionStorage.removeItem(KEY);
  signedOut();
}

/** Tries credentials; throws what the server says. They are kept until the tab is closed. */
export async function signIn(credentials: string) {
  await call('GET', '/v1/admin/overview', credentials);
  shown = credentials;
  sessionStorage.setItem(KEY, credentials);
}

async function call(method: string, path: string, credentials: string, signal?: AbortSignal, body?: object): Promise<Response> {
  const limit = AbortSignal.timeout(ANSWER_MAX_MS);
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      headers: { ...(credentials && { authorization: `Bearer ${credentials}` }), ...(body && { 'content-type': 'application/json' }) },
      ...(body && { body: JSON.stringify(body) }),
      cache: 'no-store',
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, 'unreachable', 'The server does not answer. It may be restarting: this page goes on trying.');
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({})) as { code?: string; detail?: string };
  throw new Refused(response.status, problem.code ?? '', problem.detail ?? `The server answered ${response.status}.`);
}

async function ask(method: string, path: string, signal?: AbortSignal, body?: object): Promise<Response> {
  try {
    return await call(method, path, shown ?? '', signal, body);
  } catch (error) {
    if (error instanceof Refused && error.status === 401) signOut();
    throw error;
  }
}

export const get = async <T>(path: string, signal?: AbortSignal): Promise<T> => (await ask('GET', path, signal)).json() as Promise<T>;

export async function post<T>(path: string, body?: object): Promise<T> {
  const text = await (await ask('POST', path, undefined, body)).text();
  return (text ? JSON.parse(text) : {}) as T;
}

export const remove = (path: string): Promise<unknown> => ask('DELETE', path);

/** Saves what needs credentials, which a plain link cannot show. */
export async function download(path: string, name: string) {
  const url = URL.createObjectURL(await (await ask('GET', path)).blob());
  Object.assign(document.createElement('a'), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1_000);
}

/** A part of a path. */
export const part = encodeURIComponent;
