export * from './api';
export type * from './protocol';
export { wordsFor } from './protocol';
export type { RemoteTrack } from './peer';
export type { Relay, Relayed } from './relay';
