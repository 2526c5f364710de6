// Line icons on a 24 × 24 grid.

const PATHS = {
  mic: 'M12 3a3 3 0 0 0-3 3v6a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3M5 11a7 7 0 0 0 14 0M12 18v3',
  micOff: 'M15 9V6a3 3 0 0 0-5.7-1.3M9 9v3a3 3 0 0 0 4.6 2.5M5 11a7 7 0 0 0 11.5 5.4M19 11a7 7 0 0 1-.6 2.8M12 18v3M4 4l16 16',
  camera: 'M3 7h11v10H3zM14 11l6-4v10l-6-4',
  cameraOff: 'M8 7h6v6M14 16.500V17H3V7h1M14 11l6-4v10l-3-2M4 4l16 16',
  screen: 'M3 5h18v11H3zM8 20h8M12 13V8M9.500 10.500 12 8l2.500 2.500',
  hand: 'M8 12V6a1.500 1.500 0 0 1 3 0v5V4.500a1.500 1.500 0 0 1 3 0V11V6a1.500 1.500 0 0 1 3 0v8a7 7 0 0 1-7 7c-3 0-4.500-1.500-6-4l-2-4a1.500 1.500 0 0 1 2.600-1.500L8 14',
  chat: 'M4 5h16v11H10l-5 4v-4H4z',
  people: 'M9 11a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7M2.500 20a6.500 6.500 0 0 1 13 0M16 4.500a3.500 3.500 0 0 1 0 6.500M18 14a6.500 6.500 0 0 1 3.500 6',
  leave: 'M3 15v-2c5-4.500 13-4.500 18 0v2l-4.500 1v-3a15 15 0 0 0-9 0v3z',
  settings: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 4.500v5M9 14.500v5',
  close: 'M6 6l12 12M18 6 6 18',
  send: 'M4 12 20 5l-5 15-3.500-6.500z',
};

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
