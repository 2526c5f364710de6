// How pictures of the pages are taken, and who sits before the cameras. They go to $SHOTS_DIR.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

const directory = process.env.SHOTS_DIR ?? 'shots';
mkdirSync(directory, { recursive: true });
export const desktop = { width: 1280, height: 800 };
const lying = { width: 844, height: 390, deviceScaleFactor: 2 };
const phone = { width: 390, height: 844, deviceScaleFactor: 2 }; // without isMobile, for which puppeteer would reload the page
const schemes = ['dark', 'light'];

export async function shoot(page, name) {
  for (const [device, viewport] of Object.entries({ desktop, phone, lying })) {
    await page.setViewport(viewport);
    for (const value of schemes) {
      await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value }]);
      await page.screenshot({ path: join(directory, `${name}-${device}-${value}.png`) });
    }
  }
  await page.setViewport(desktop);
}

/** Instead of the browser's test pattern: somebody in a room, drawn; Bob hums. Runs in the page. */
export function sitter() {
  const name = new URLSearchParams(location.search).get('name') ?? localStorage.who ?? '';
  const looks = {
    A: ['#d9c7a8', '#7d5a3c', '#f0c9a4', '#3b2a20', '#7a2f43'], B: ['#b9cfd6', '#4f6d7a', '#8a5a3b', '#1d1512', '#e0a33a'],
    C: ['#cfd8c0', '#5d7a55', '#e7b894', '#8d3b1f', '#2e5a88'], D: ['#d8cfe0', '#6a5a85', '#f3d3b8', '#c9a25a', '#2f6b5a'],
  };
  const [wall, shelf, skin, hair, shirt] = looks[name[0]] ?? looks.A;
  const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 360 });
  const c = canvas.getContext('2d');
  const ellipse = (colour, x, y, rx, ry, from = 0, to = 2 * Math.PI) => {
    c.fillStyle = colour;
    c.beginPath();
    c.ellipse(x, y, rx, ry, 0, from, to);
    c.fill();
  };
  const box = (colour, x, y, w, h) => { c.fillStyle = colour; c.fillRect(x, y, w, h); };
  const paint = () => {
    const now = performance.now() / 1000 + name.length;
    const sway = 8 * Math.sin(now);
    const light = c.createLinearGradient(0, 0, 640, 360);
    light.addColorStop(0, '#fff8');
    light.addColorStop(1, '#0004');
    box(wall, 0, 0, 640, 360);
    box(shelf, 40, 60, 150, 8);
    box(shelf, 40, 150, 150, 8);
    [30, 46, 38, 52, 40, 34, 48].forEach((h, at) => box([shirt, hair, '#f4efe4', shelf][at % 4], 48 + at * 19, 60 - h, 15, h));
    [44, 34, 50, 36, 46].forEach((h, at) => box([hair, '#f4efe4', shirt][at % 3], 60 + at * 19, 150 - h, 15, h));
    box('#eef4f8', 500, 30, 110, 140);
    box(shelf, 552, 30, 5, 140);
    box(shelf, 500, 97, 110, 5);
    c.fillStyle = light;
    c.fillRect(0, 0, 640, 360);
    const x = 320 + sway;
    ellipse(hair, x, 150, 76, 92);
    ellipse(shirt, x, 380, 150, 130);
    box(skin, x - 24, 220, 48, 50);
    ellipse(skin, x, 165, 60, 76);
    ellipse(hair, x, 118, 66, 46, Math.PI, 0);
    const blink = now % 4 < 0.15 ? 1 : 6;
    ellipse('#2a2220', x - 22, 162, 6, blink);
    ellipse('#2a2220', x + 22, 162, 6, blink);
    ellipse('#a34c4c', x, 205, 18, name[0] === 'B' ? 4 + 5 * Math.abs(Math.sin(now * 6)) : 5, 0, name[0] === 'B' ? 2 * Math.PI : Math.PI);
  };
  setInterval(paint, 1000 / 15);
  paint();
  navigator.mediaDevices.getUserMedia = async (asked) => {
    if (asked.video) return canvas.captureStream(15);
    const context = new AudioContext();
    const voice = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
    const hum = new OscillatorNode(context, { frequency: 220 });
    hum.connect(new GainNode(context, { gain: name[0] === 'B' ? 0.4 : 0.0001 })).connect(voice);
    hum.start();
    return voice.stream;
  };
  navigator.mediaDevices.enumerateDevices = async () => [
    ['videoinput', 'FaceTime HD Camera'], ['videoinput', 'Logitech StreamCam'], ['audioinput', 'MacBook Pro Microphone'],
    ['audioinput', 'AirPods'], ['audiooutput', 'MacBook Pro Speakers'], ['audiooutput', 'AirPods'],
  ].map(([kind, label]) => ({ kind, label, deviceId: label }));
}

