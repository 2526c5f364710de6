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
  more: 'M12 4.500a.7.7 0 1 0 .01 0zM12 11.300a.7.7 0 1 0 .01 0zM12 18.100a.7.7 0 1 0 .01 0z',
  pin: 'M9 4h6l-1 6 3 3v2H7v-2l3-3zM12 15v5',
  lock: 'M6 11h12v9H6zM8.500 11V7.500a3.500 3.500 0 0 1 7 0V11',
  unlock: 'M6 11h12v9H6zM8.500 11V7.500a3.500 3.500 0 0 1 6.700-1.400',
  link: 'M10 14a4 4 0 0 0 6 0l3-3a4.200 4.200 0 0 0-6-6l-1.500 1.500M14 10a4 4 0 0 0-6 0l-3 3a4.200 4.200 0 0 0 6 6l1.500-1.500',
  grid: 'M4 5h7v6H4zM13 5h7v6h-7zM4 13h7v6H4zM13 13h7v6h-7z',
  speaker: 'M4 5h16v9H4zM4 17h4v2H4zM10 17h4v2h-4zM16 17h4v2h-4z',
  stats: 'M5 20v-6M10 20V9M15 20v-8M20 20V4',
  keyboard: 'M3 7h18v10H3zM7 11h.01M11 11h.01M15 11h.01M18 11h.01M8 14h8',
  attendance: 'M5 4h14v16H5zM8.500 9l1.500 1.500L13 8M8.500 15l1.500 1.500L13 14M15.500 10h1M15.500 16h1',
  ear: 'M4 13v-1a8 8 0 0 1 16 0v1M4 13h3v6H4zM17 13h3v6h-3z',
  end: 'M5 5h14v14H5z',
  sound: 'M4 10v4h3l5 4V6L7 10zM15.500 9a4 4 0 0 1 0 6M18 6.500a8 8 0 0 1 0 11',
  previous: 'M15 5l-7 7 7 7',
  next: 'M9 5l7 7-7 7',
  self: 'M4 5h16v14H4zM12 13a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5M7.500 19a4.500 4.500 0 0 1 9 0',
  corner: 'M4 5h16v14H4zM12 12h5v4h-5z',
  down: 'M12 5v14M6 13l6 6 6-6',
};

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
