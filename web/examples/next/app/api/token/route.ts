import { createHmac, timingSafeEqual } from 'node:crypto';
import { cookies } from 'next/headers';

/** How long the Lyceum server may take to answer. */
const ANSWER_MS = 5_000;

/** Shows that an identity was given out here: nobody may come as somebody else by writing their cookie. */
function markOf(user: string): string {
  return createHmac('sha256', process.env.LYCEUM_KEY_SECRET ?? '').update(`visitor ${user}`).digest('base64url');
}

function isEqual(one: string, other: string): boolean {
  const [a, b] = [new TextEncoder().encode(one), new TextEncoder().encode(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/** Who asks. An application has its own sign-in and looks there; this example gives each browser an identity of its own. */
async function whoAsks(): Promise<string> {
  const jar = await cookies();
  const [known = '', mark = ''] = jar.get('visitor')?.value.split('.') ?? [];
  if (known && isEqual(mark, markOf(known))) return known;
  const user = crypto.randomUUID();
  jar.set('visitor', `${user}.${markOf(user)}`, { httpOnly: true, sameSite: 'lax', path: '/' });
  return user;
}

/**
 * `POST { sessionId, userName }` gives `{ token }`: a join token for that session. Here the application decides who may enter what, and as
 * whom; the key pair that lets it do so stays on this side.
 */
export async function POST(request: Request): Promise<Response> {
  const asked: unknown = await request.json().catch(() => null);
  const { sessionId, userName } = (asked ?? {}) as { sessionId?: unknown; userName?: unknown };
  if (typeof sessionId !== 'string' || typeof userName !== 'string') {
    return Response.json({ error: { code: 'request/invalid', message: 'Send sessionId and userName.' } }, { status: 400 });
  }
  const { LYCEUM_URL, LYCEUM_KEY_ID, LYCEUM_KEY_SECRET } = process.env;
  const pair = Buffer.from(`${LYCEUM_KEY_ID}:${LYCEUM_KEY_SECRET}`).toString('base64');
  const granted = await fetch(`${LYCEUM_URL}/v1/video/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${pair}`, 'content-type': 'application/json' },
    body: JSON.stringify({ sessionId, userName, userId: await whoAsks(), role: 'participant' }),
    signal: AbortSignal.timeout(ANSWER_MS),
  }).catch(() => null);
  if (!granted?.ok) {
    // What the server said may be about the key pair, which is no business of the browser's.
    console.error('no token for', sessionId, granted ? await granted.text() : 'the Lyceum server does not answer');
    return Response.json({ error: { code: 'server/unreachable', message: 'There is no token at the moment. Try again.' } }, { status: 502 });
  }
  const { token } = (await granted.json()) as { token: string };
  return Response.json({ token });
}
