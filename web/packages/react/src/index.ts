'use client';

export { RoomAudio, type RoomAudioProps } from './audio';
export {
  useActiveSpeakers, useChat, useConnectionQuality, useDevices, useHands, useLocalMedia, useParticipant, useParticipants, useRoomEvent, useRoomState,
  useTracks, useWaiting, type Chat, type Devices, type Hands, type TrackFilter, type WaitingRoom,
} from './hooks';
export { PreJoin, type PreJoinProps } from './prejoin';
export { RoomProvider, useMedia, useRoom, type RoomProviderProps } from './room';
export { useStore } from './store';
export { VideoTile, type VideoTileProps } from './video';
