'use client';

export { RoomAudio, type RoomAudioProps } from './audio.tsx';
export {
  useActiveSpeakers, useChat, useConnectionQuality, useDevices, useHands, useLocalMedia, useParticipant, useParticipants, useRoomEvent, useRoomState,
  useTracks, useWaiting, type Chat, type Devices, type Hands, type TrackFilter, type WaitingRoom,
} from './hooks.ts';
export { PreJoin, type PreJoinProps } from './prejoin.tsx';
export { RoomProvider, useMedia, useRoom, type RoomProviderProps } from './room.tsx';
export { useStore } from './store.ts';
export { VideoTile, type VideoTileProps } from './video.tsx';
