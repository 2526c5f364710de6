// All that the page says, in one place. What a code of the server means is said by `wordsFor` of the client.

import type { DeviceKind, Moderated, Source, Status } from '@lyceum/client';

const plural = (count: number, one: string, many: string): string => `${count} ${count === 1 ? one : many}`;

export const words = {
  product: 'Lyceum',
  titleOf: (session: string) => `${session} · Lyceum`,
  you: (name: string) => `${name} (you)`,
  close: (what: string) => `Close ${what.toLowerCase()}`,
  cancel: 'Cancel',
  copy: 'Copy',
  copied: 'Copied',
  cannotCopy: 'Your browser does not let this page copy. Select the text and copy it yourself.',

  lobby: {
    preview: 'Preview',
    cameraOff: 'Your camera is off',
    cameraStarting: 'Your camera is starting…',
    asking: 'Allow your camera and microphone when your browser asks.',
    name: 'Your name',
    session: 'Session',
    join: 'Join',
    joinAgain: 'Join again',
    hint: 'Everyone who enters the same session name meets in one call.',
    left: 'You left the call.',
    meter: 'Loudness of your microphone',
    testSpeaker: 'Test sound',
    attendance: 'Who attended',
    insecure: 'No camera or microphone here: browsers give them to secure pages only, and this address is plain HTTP.',
    insecureFix: (host: string) => `On the machine that runs the server open http://localhost${host}. From elsewhere open an https:// address: `
      + 'whoever runs the server sets one up under [tls] in its settings. You can join as you are, to watch, listen and write.',
    old: 'This browser is too old for calls.',
    oldFix: 'Use Chrome, Edge or Firefox of the last two years, or Safari 17 and later.',
  },

  devices: { camera: 'Camera', microphone: 'Microphone', speaker: 'Speaker' } satisfies Record<DeviceKind, string>,
  unnamed: 'The browser’s choice',
  blur: 'Blur my background',
  blurHint: 'Done by this computer’s camera',

  faulty: { camera: 'Your camera', microphone: 'Your microphone', screen: 'Your screen' },

  bar: {
    label: 'Call controls',
    micOn: 'Turn microphone on', micOff: 'Turn microphone off',
    cameraOn: 'Turn camera on', cameraOff: 'Turn camera off',
    share: 'Share your screen', unshare: 'Stop sharing your screen',
    raise: 'Raise your hand', lower: 'Lower your hand',
    people: 'People', chat: 'Chat', more: 'More', leave: 'Leave the call',
    unread: (count: number) => `${count} unread`,
    wait: (count: number) => `${count} waiting`,
    here: (count: number) => `${count} here`,
    locked: 'Locked',
  },

  more: {
    react: 'React', reactWith: (emoji: string) => `React with ${emoji}`,
    speaker: 'Speaker view', grid: 'Grid view',
    audioOnly: 'Audio only', audioOnlyHint: 'Saves data: no pictures of others',
    settings: 'Settings', stats: 'Connection', help: 'Keyboard shortcuts', attendance: 'Attendance',
    invite: 'Copy link to invite',
    lock: 'Lock the call', unlock: 'Unlock the call',
    muteAll: 'Mute everyone', end: 'End for all',
  },

  call: {
    label: (session: string) => `Call ${session}`,
    stage: 'People',
    joining: 'Joining…',
    waiting: 'The instructor will let you in.',
    lost: 'The connection was lost. Reconnecting…',
    leave: 'Leave',
    sharing: 'You are sharing your screen',
    stopSharing: 'Stop sharing',
    audioOnly: 'Audio only: pictures are off to save data',
    picturesOn: 'Show pictures',
    previous: 'Previous page', next: 'Next page',
    page: (page: number, pages: number) => `${page} of ${pages}`,
    others: (count: number) => `${count} more`,
    unlockSound: 'Your browser holds back the sound. Turn it on',
    alone: 'Nobody else is here yet.',
    mutedSpeaking: 'You are muted. The others do not hear you.',
    unmute: 'Turn microphone on',
    draining: 'The server is about to restart. You will be brought back.',
    pushing: 'You are heard while you hold the space bar',
    came: (name: string) => `${name} joined.`,
    gone: (name: string) => `${name} left.`,
    reaction: (name: string, emoji: string) => `${name}: ${emoji}`,
  },

  self: {
    hide: 'Hide my picture', show: 'Show my picture',
    move: 'Move my picture to the next corner', moveHint: 'Move my picture to the next corner, or with the arrow keys',
  },

  tile: {
    camera: (name: string) => `Camera of ${name}`,
    screen: (name: string) => `Screen of ${name}`,
    screenComing: 'The screen is on its way…',
    micOff: 'Microphone off', micOn: 'Microphone on', cameraOff: 'Camera off', hand: 'Hand raised',
    still: 'Video paused: your connection is slow',
    away: 'Reconnecting…',
    codec: 'Your browser cannot show this picture',
    limit: 'Too many pictures at once: this one is left out',
    pin: (name: string) => `Pin ${name}`, unpin: (name: string) => `Unpin ${name}`,
    pinned: 'Pinned',
    quality: (own: boolean, score: number, cause: string) =>
      `${own ? 'Your connection' : 'Connection'} is ${['lost', 'bad', 'weak', 'good', 'excellent'][score] ?? ''}${cause ? `: ${cause}` : ''}`,
    causes: { uplink: 'sending', downlink: 'receiving', server: 'the server', relay: 'a relayed connection' },
    relayed: (how: string) => `Relayed (${how})`,
    relayedWhy: (how: string) => `Your media goes by a relay (TURN over ${how}) instead of straight to the server. It may arrive a little later.`,
    notRelayed: 'Not relayed',
    notRelayedWhy: 'Only relayed media was asked for, and there is no relayed connection.',
  },

  people: {
    title: (count: number) => `People (${count})`,
    instructor: 'Instructor', observer: 'Observer',
    invite: 'Link to invite',
    inviteEach: 'To invite somebody, send them to the site where you joined: each person gets a link of their own there.',
    waiting: (count: number) => `Waiting to be let in (${count})`,
    admit: 'Admit', admitAll: 'Admit all', deny: 'Turn away',
    admitOf: (name: string) => `Admit ${name}`, denyOf: (name: string) => `Turn away ${name}`,
    waits: (name: string) => `${name} waits to be let in.`,
    manyWait: (count: number) => `${count} people wait to be let in.`,
    look: 'Look',
    hands: (count: number) => `Raised hands (${count})`,
    lowerAll: 'Lower all hands',
    lowerOf: (name: string) => `Lower the hand of ${name}`,
    everyone: 'Everyone',
    muteAll: 'Mute all',
    actions: (name: string) => `More for ${name}`,
    mute: 'Mute', askUnmute: 'Ask to unmute', cameraOff: 'Turn camera off', askCamera: 'Ask to turn camera on', stopScreen: 'Stop the screen',
    lower: 'Lower hand', promote: 'Make instructor', demote: 'Make participant', remove: 'Remove from the call', pin: 'Pin', unpin: 'Unpin',
  },

  chat: {
    title: 'Chat',
    empty: 'No messages yet. Everyone in the call sees what you write.',
    message: 'Message',
    placeholder: 'Write to everyone',
    send: 'Send',
    tooLong: 'That message is too long.',
    latest: (count: number) => (count ? plural(count, 'new message', 'new messages') : 'Latest messages'),
    from: (name: string, text: string) => `Message from ${name}: ${text}`,
  },

  settings: {
    title: 'Settings',
    shortcuts: 'Keyboard shortcuts',
    shortcutsHint: 'Single keys such as M for the microphone; press ? for all',
  },

  help: {
    title: 'Keyboard shortcuts',
    off: 'They are switched off. Settings switch them on again.',
    hold: 'hold',
    keys: [
      ['M', 'Microphone on or off'], ['V', 'Camera on or off'], ['Space', 'Hold to talk while you are muted'], ['D', 'Share your screen'],
      ['R', 'Raise or lower your hand'], ['C', 'Chat'], ['P', 'People'], ['W', 'Grid or speaker view'], ['?', 'This list'], ['Esc', 'Close what is open'],
    ] as [string, string][],
    chords: [['D', 'Microphone on or off, also while you write'], ['E', 'Camera on or off, also while you write']] as [string, string][],
  },

  ask: {
    remove: (name: string) => `Remove ${name} from the call?`,
    removeWhy: 'They cannot come back to this meeting.',
    end: 'End the call for everyone?',
    endWhy: 'Everyone is sent out of the call.',
    leave: 'Leave the call?',
    leaveOn: 'The others go on without an instructor.',
    unsent: 'What you wrote in the chat was not sent.',
    promote: (name: string) => `Make ${name} an instructor?`,
    promoteWhy: 'They may then do what you may: mute, remove, lock and end.',
    muteAll: 'Mute everyone?',
    muteAllWhy: 'Everyone but the instructors. Each turns the microphone on again by themselves.',
    yes: { remove: 'Remove', end: 'End for all', leave: 'Leave', promote: 'Make instructor', muteAll: 'Mute everyone' },
  },

  stats: {
    title: 'Connection',
    empty: 'No numbers yet.',
    rtt: 'Round trip', path: 'Path', direct: 'direct',
    out: 'You send', in: 'You receive',
    nothing: 'Nothing',
    copy: 'Copy as text',
    sources: { camera: 'camera', microphone: 'microphone', screen: 'screen', 'screen-audio': 'screen sound' } satisfies Record<Source, string>,
  },

  attendance: {
    title: 'Attendance',
    loading: 'Loading…',
    refresh: 'Refresh', csv: 'Download CSV',
    who: 'Who', joined: 'Came', left: 'Left', minutes: 'Minutes', speaking: 'Speaking',
    here: 'still here',
    live: 'The meeting goes on; these are the numbers until now.',
    over: 'The meeting is over.',
    pending: 'Attendance is not written down yet. Try again in a moment.',
    denied: 'You may not see this meeting’s attendance.',
    unreachable: 'The server cannot be reached. Try again.',
    timeline: 'When everybody was there',
    timelineOf: (people: number, from: string, to: string) => `When everybody was there: ${plural(people, 'person', 'people')}, from ${from} to ${to}. The table below says the same in numbers.`,
    spans: (name: string, spans: string) => `${name}: ${spans}`,
    summary: (people: number, minutes: string) => `${plural(people, 'person', 'people')}, ${minutes} min`,
    speakingHint: 'Speaking is what browsers tell of their own microphones: a hint, no proof.',
  },

  moderated: {
    by: 'The instructor',
    muted: {
      microphone: 'muted you', camera: 'turned your camera off', screen: 'stopped the screen that you shared', 'screen-audio': 'muted the sound of your screen',
    } satisfies Record<Source, string>,
    did: (who: string, what: string) => `${who} ${what}.`,
    asks: (who: string, what: 'camera' | 'microphone') => `${who} asks you to turn your ${what} on.`,
    turnOn: 'Turn it on',
    lowered: (who: string) => `${who} lowered your hand.`,
    promoted: (who: string, role: Moderated['role']) => `${who} made you ${role === 'instructor' ? 'an instructor' : role === 'observer' ? 'an observer' : 'a participant'}.`,
  },
};

/** Why there is no call yet, or none just now. */
export function wordsOf(status: Status): string {
  if (status === 'waiting') return words.call.waiting;
  return status === 'reconnecting' ? words.call.lost : words.call.joining;
}
