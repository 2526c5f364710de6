// This person's devices, with a browser that does what the test says.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLocalMedia } from '../dist/index.js';
import { FakeTrack, fakeBrowser, settled } from './fakes.mjs';

const live = (browser) => browser.opened.filter((track) => track.readyState === 'live').map((track) => track.deviceId);

test('nothing is touched before it is asked for, not even a browser', () => {
  const media = createLocalMedia();
  assert.deepEqual([media.state.camera, media.state.microphoneOn, media.level()], [null, false, 0]);
});

test('both devices come on, and say what can be chosen', async (t) => {
  const browser = fakeBrowser(t);
  const media = createLocalMedia();
  await media.start();
  await settled();
  assert.deepEqual(live(browser), ['mic-1', 'cam-1']);
  assert.deepEqual([media.state.microphoneOn, media.state.microphone.enabled], [true, true]);
  assert.deepEqual(media.state.devices.camera.map(({ id, label }) => [id, label]), [['cam-1', 'The cam-1'], ['cam-2', 'The cam-2']]);
  media.close();
  assert.deepEqual(live(browser), []);
});

test('a microphone that is muted stays open, a camera that is off does not; both are remembered by the tab', async (t) => {
  const browser = fakeBrowser(t);
  const media = createLocalMedia();
  await media.start();
  const { microphone } = media.state;
  await Promise.all([media.setMicrophone(false), media.setCamera(false)]);
  assert.deepEqual([media.state.microphone, microphone.enabled, media.state.microphoneOn, media.state.camera], [microphone, false, false, null]);
  assert.deepEqual(live(browser), ['mic-1']);
  const reloaded = createLocalMedia();
  await reloaded.start();
  assert.deepEqual([reloaded.state.microphone, reloaded.state.camera], [null, null]);
  const other = createLocalMedia({ storage: 'none' });
  await other.start();
  assert.equal(other.state.microphoneOn, true);
});

test('a button that is pressed while the browser still asks', async (t) => {
  const browser = fakeBrowser(t);
  let allow;
  browser.prompt = new Promise((done) => { allow = done; });
  const media = createLocalMedia();
  const pressed = [media.setCamera(true), media.setCamera(false), media.setCamera(true), media.setMicrophone(true), media.setMicrophone(false)];
  allow();
  await Promise.all(pressed);
  assert.deepEqual([live(browser), media.state.microphoneOn], [['cam-1'], false]);
  assert.equal(media.state.camera.readyState, 'live');
});

test('what went wrong is a code, until it works', async (t) => {
  const browser = fakeBrowser(t);
  const media = createLocalMedia();
  for (const [error, fault] of [['NotAllowedError', 'denied'], ['NotFoundError', 'missing'], ['NotReadableError', 'busy'], ['AbortError', 'failed']]) {
    browser.refuses = error;
    await media.setCamera(true);
    assert.deepEqual(media.state.faults, { camera: `device/${fault}` });
  }
  browser.refuses = '';
  await media.setCamera(true);
  assert.deepEqual([media.state.faults, live(browser)], [{}, ['cam-1']]);
  navigator.mediaDevices = undefined;
  await media.setMicrophone(true);
  assert.deepEqual(media.state.faults, { microphone: 'device/insecure' });
});

test('whoever thinks better of sharing has done nothing wrong', async (t) => {
  const browser = fakeBrowser(t);
  const media = createLocalMedia();
  browser.refuses = 'NotAllowedError';
  await media.setScreen(true);
  assert.deepEqual([media.state.screen, media.state.faults], [null, {}]);
  browser.refuses = '';
  await media.setScreen(true);
  assert.ok(media.state.screen && media.state.screenAudio);
  media.state.screen.unplug(); // by the browser's own button
  await settled();
  assert.deepEqual([media.state.screen, media.state.screenAudio], [null, null]);
});

test('another device is taken at once, and remembered', async (t) => {
  const browser = fakeBrowser(t);
  const media = createLocalMedia();
  await media.start();
  await media.setMicrophone(false);
  await Promise.all([media.choose('camera', 'cam-2'), media.choose('microphone', 'mic-2'), media.choose('speaker', 's-2')]);
  assert.deepEqual(live(browser).sort(), ['cam-2', 'mic-2']);
  assert.equal(media.state.microphone.enabled, false, 'a muted one stays muted');
  assert.deepEqual(createLocalMedia().state.chosen, { camera: 'cam-2', microphone: 'mic-2', speaker: 's-2' });
  assert.deepEqual(createLocalMedia({ storage: 'none' }).state.chosen.camera, '');
  browser.devices = browser.devices.filter(([, id]) => id !== 'cam-2');
  await media.setCamera(false);
  await media.setCamera(true);
  assert.ok(live(browser).includes('cam-1'), 'one that is not plugged in today gives way');
});

test('a microphone that is unplugged gives way to another; a camera goes off', async (t) => {
  const browser = fakeBrowser(t);
  t.mock.timers.enable({ apis: ['Date'] });
  const media = createLocalMedia();
  await media.start();
  browser.devices = browser.devices.filter(([, id]) => id !== 'mic-1' && id !== 'cam-1');
  t.mock.timers.tick(60_000);
  media.state.microphone.unplug();
  media.state.camera.unplug();
  browser.mediaDevices.dispatchEvent(new Event('devicechange'));
  await settled();
  assert.deepEqual([media.state.microphone.deviceId, media.state.microphoneOn, media.state.camera], ['mic-2', true, null]);
  assert.deepEqual(media.state.faults, { camera: 'device/missing' });
  assert.deepEqual(media.state.devices.microphone.map(({ id }) => id), ['mic-2']);
  media.state.microphone.unplug(); // one that ends at once is not tried for ever
  await settled();
  assert.deepEqual([media.state.microphone, media.state.microphoneOn, media.state.faults.microphone], [null, false, 'device/missing']);
});

test('a filter\'s picture is shown in place of the camera\'s, until it is taken away', async (t) => {
  fakeBrowser(t);
  const media = createLocalMedia();
  await media.setCamera(true);
  const own = media.state.camera;
  const made = [];
  media.setFilter((camera) => {
    assert.equal(camera, own);
    made.push({ readyState: 'live', onended: null, stop() { this.readyState = 'ended'; } });
    return made.at(-1);
  });
  assert.equal(media.state.camera, made[0]);
  assert.equal(own.readyState, 'live');
  media.setFilter(null);
  assert.deepEqual([media.state.camera, made[0].readyState, own.readyState], [own, 'ended', 'live']);
  media.setFilter(() => { throw new Error('no WebGL'); });
  assert.equal(media.state.camera, own);
});

test('what is closed while the browser asks for the microphone opens no camera afterwards', async (t) => {
  for (const what of [undefined, 'camera', 'microphone']) {
    const browser = fakeBrowser(t);
    let allow;
    browser.prompt = new Promise((done) => { allow = done; });
    const media = createLocalMedia();
    const started = media.start();
    await settled();
    media.close(what);
    allow();
    await started;
    assert.deepEqual(live(browser), { undefined: [], camera: ['mic-1'], microphone: ['cam-1'] }[what]);
    assert.ok(![...browser.sessionStorage.held.values()].includes('off'), 'nobody has turned anything off');
  }
});

test('a meter\'s copy of a microphone ends with it when another is chosen', async (t) => {
  fakeBrowser(t);
  const put = (name, value) => {
    globalThis[name] = value;
    t.after(() => { delete globalThis[name]; });
  };
  put('AudioContext', class { createMediaStreamSource = () => ({ connect() {} }); close = async () => {}; });
  put('AnalyserNode', class { getFloatTimeDomainData() {} });
  put('MediaStream', class {});
  const media = createLocalMedia();
  await media.setMicrophone(true);
  const copy = new FakeTrack('audio');
  media.state.microphone.clone = () => copy;
  assert.equal(media.level(), 0);
  assert.equal(copy.readyState, 'live');
  await media.choose('microphone', 'mic-2');
  assert.equal(copy.readyState, 'ended');
});

test('what is closed works again when it is turned on', async (t) => {
  const browser = fakeBrowser(t);
  const media = createLocalMedia();
  await media.start();
  media.close();
  await media.setCamera(true);
  assert.deepEqual(live(browser), ['cam-1']);
});
