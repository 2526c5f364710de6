// Data channels: a first line says whom a message is for, or who sent it (docs/protocol.md, Data channels).

/** So many `participantId`s one message may name. */
export const RECIPIENTS_MAX = 32;
/** The longest message with its first line, in bytes. */
export const MESSAGE_BYTES_MAX = 262_144;
/** So many messages of a channel wait until it is open; further ones are refused. */
const WAITING_MAX = 64;
/** So much may wait in the browser: beyond it lossy messages are dropped, others refused. */
const BUFFERED_BYTES_MAX = 4_194_304;

export type Data = string | ArrayBuffer;

/** By custom this label is for what may get lost. */
const LOSSY = 'data-lossy';

const bytesOf = (data: Data): number => (typeof data === 'string' ? new TextEncoder().encode(data).length : data.byteLength);

/** What goes over the wire: for each 32 of those whom it is for a message, and one where it is for all. */
export function framed(data: Data, to: readonly string[]): Data[] {
  const frames: Data[] = [];
  for (let at = 0; at === 0 || at < to.length; at += RECIPIENTS_MAX) {
    const line = `${to.slice(at, at + RECIPIENTS_MAX).join(' ')}\n`;
    frames.push(typeof data === 'string' ? line + data : joined(new TextEncoder().encode(line), new Uint8Array(data)));
  }
  return frames;
}

function joined(line: Uint8Array, data: Uint8Array): ArrayBuffer {
  const whole = new Uint8Array(line.length + data.length);
  whole.set(line);
  whole.set(data, line.length);
  return whole.buffer;
}

/** Who sent it, and what; `null` if it is no such message. */
export function unframed(message: Data): { from: string; data: Data } | null {
  if (typeof message === 'string') {
    const end = message.indexOf('\n');
    return end < 0 ? null : { from: message.slice(0, end), data: message.slice(end + 1) };
  }
  const end = new Uint8Array(message).indexOf(10);
  return end < 0 ? null : { from: new TextDecoder().decode(message.slice(0, end)), data: message.slice(end + 1) };
}

interface Line {
  channel: RTCDataChannel | null;
  waiting: Data[];
}

/** The channels of a call, which outlive its RTCPeerConnections. */
export class Channels {
  private readonly lines = new Map<string, Line>();
  private pc: Pick<RTCPeerConnection, 'createDataChannel'> | null = null;

  constructor(private readonly heard: (label: string, from: string, data: Data) => void) {}

  /** Another connection takes the place of the one before. */
  attach(pc: Pick<RTCPeerConnection, 'createDataChannel'> | null): void {
    this.pc = pc;
    for (const [label, line] of this.lines) {
      line.channel = null;
      this.connect(label, line);
    }
  }

  /** Listens to a label from now on. */
  open(label: string): void {
    if (this.lines.has(label)) return;
    const line: Line = { channel: null, waiting: [] };
    this.lines.set(label, line);
    this.connect(label, line);
  }

  /** Gives the code of a refusal, or an empty string. */
  send(label: string, data: Data, to: readonly string[]): string {
    this.open(label);
    const line = this.lines.get(label);
    if (!line) return '';
    for (const frame of framed(data, to)) {
      if (bytesOf(frame) > MESSAGE_BYTES_MAX) return 'request/invalid';
      const { channel } = line;
      if (channel?.readyState === 'open') {
        if (channel.bufferedAmount > BUFFERED_BYTES_MAX) return label === LOSSY ? '' : 'rate/limited';
        give(channel, frame);
      } else if (channel && channel.readyState !== 'connecting') {
        return 'session/forbidden'; // closed by the server: this person may not send, or did not read
      } else if (line.waiting.length >= WAITING_MAX) {
        return 'rate/limited';
      } else {
        line.waiting.push(frame);
      }
    }
    return '';
  }

  private connect(label: string, line: Line): void {
    if (!this.pc) return;
    const channel = this.pc.createDataChannel(label, label === LOSSY ? { ordered: false, maxRetransmits: 0 } : {});
    channel.binaryType = 'arraybuffer';
    channel.onopen = () => line.waiting.splice(0).forEach((frame) => give(channel, frame));
    channel.onmessage = ({ data }: MessageEvent<Data>) => {
      const message = unframed(data);
      if (message) this.heard(label, message.from, message.data);
    };
    line.channel = channel;
  }
}

function give(channel: RTCDataChannel, frame: Data): void {
  try {
    if (typeof frame === 'string') channel.send(frame);
    else channel.send(frame);
  } catch (error) {
    console.warn('data channel', error); // closed between two looks at it
  }
}
