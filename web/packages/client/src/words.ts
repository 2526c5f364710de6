// What codes mean to a person, and what to do about them.

const WORDS: Record<string, string> = {
  '': 'You left the call.',
  'auth/missing': 'This call needs an invitation. Open it from the link that you were given.',
  'auth/expired': 'Your invitation has expired. Go back to where you found its link and open the call from there again.',
  'auth/invalid': 'This invitation is not valid here. Ask for a new link.',
  'auth/revoked': 'You were removed from this call, or your invitation was withdrawn. If that was a mistake, ask your instructor.',
  'session/not_joined': 'The call does not know you any more. Join again.',
  'session/full': 'This call is full.',
  'session/locked': 'This call is locked. Ask the host to let you in.',
  'session/ended': 'This call has ended.',
  'session/replaced': 'You joined this call in another tab or on another device.',
  'session/forbidden': 'The rules of this call do not allow you that. Ask your instructor.',
  'session/unknown_target': 'That person is not in the call any more.',
  'media/new_peer_required': 'Your media connection had to be set up again.',
  'media/invalid_sdp': 'Your browser and the server could not agree on how to send media.',
  'media/not_permitted': 'You may not share this here.',
  'rate/limited': 'That was too fast. Wait a moment and try again.',
  'request/invalid': 'The server did not understand that. Reload the page.',
  'server/draining': 'The server is about to restart. You will be brought back.',
  'server/overloaded': 'The server is very busy. Trying again…',
  internal: 'Something went wrong on the server. Try again.',
  // From here on, codes that are minted on this side.
  'join/forbidden': 'You were not let into this call. Ask your instructor.',
  'server/unreachable': 'The server cannot be reached. Trying again…',
  'relay/none': 'Only relayed media was asked for, but the server names no such TURN server.',
  'browser/unsupported': 'This browser cannot hold video calls. Open this page in a current Chrome, Edge, Firefox or Safari.',
};

/** Behind «Your camera», or whatever is meant. */
const DEVICE_WORDS: Record<string, string> = {
  'device/insecure': 'works only on https pages and on localhost. Open this page by its https address.',
  'device/denied': 'is blocked. Allow it for this page in the address bar of your browser.',
  'device/missing': 'was not found. Plug one in and try again; you can join without it.',
  'device/busy': 'is used by another program. Close that program and try again.',
  'device/failed': 'could not be started. Try again.',
};

/** What a code means to a person; a code that is newer than this package is shown as it is. `device`: which one a `device/…` is about. */
export function wordsFor(code: string, device: 'camera' | 'microphone' | 'screen' | 'camera or microphone' = 'camera or microphone'): string {
  const fault = DEVICE_WORDS[code];
  return fault ? `Your ${device} ${fault}` : WORDS[code] ?? `The call ended (${code}).`;
}

/** Codes after which trying the same again a little later may succeed. */
export const PASSING: ReadonlySet<string> = new Set(['rate/limited', 'server/draining', 'server/overloaded', 'internal']);

export const isCode = (text: string): boolean => text === 'internal' || /^[a-z]+\/[a-z_]+$/.test(text);
