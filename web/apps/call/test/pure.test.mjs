// What needs no browser: where tiles stand, and what becomes a link.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createServer } from 'vite';

let vite, layout, links;
before(async () => {
  vite = await createServer({ server: { middlewareMode: true, ws: false, watch: null }, appType: 'custom', logLevel: 'error', optimizeDeps: { noDiscovery: true } });
  layout = await vite.ssrLoadModule('/src/layout.ts');
  links = await vite.ssrLoadModule('/src/links.tsx');
});
after(() => vite?.close());

test('as many tiles as a stage holds fit on it, and none is smaller than it may be', () => {
  const { GAP, capacity, fit } = layout;
  for (const [width, height] of [[1260, 714], [374, 690], [780, 378], [620, 400], [136, 88], [2540, 1300]]) {
    const most = capacity(width, height);
    assert.ok(most >= 1 && most <= 25, `${most} on ${width} × ${height}`);
    for (let count = 1; count <= most; count++) {
      const tile = fit(count, width, height);
      const rows = Math.ceil(count / tile.columns);
      const words = `${count} on ${width} × ${height}: ${JSON.stringify(tile)}`;
      assert.ok(tile.columns * tile.width + (tile.columns - 1) * GAP <= width, words);
      assert.ok(rows * tile.height + (rows - 1) * GAP <= height, words);
      assert.ok(tile.width >= 120 && tile.height >= 80, words);
    }
  }
  assert.equal(capacity(10, 10), 1, 'one is always shown');
});

test('who speaks is brought to the first page, and nobody else moves but one who is silent', () => {
  const people = Array.from({ length: 6 }, (_, at) => `p${at}`);
  const { arrange } = layout;
  const first = arrange([], people, [], 3, 'p0');
  assert.deepEqual(first, people);
  const second = arrange(first, people, ['p4'], 3, 'p0');
  assert.deepEqual(second, ['p0', 'p1', 'p4', 'p3', 'p2', 'p5']);
  assert.deepEqual(arrange(second, people, ['p4'], 3, 'p0'), second, 'once is enough');
  assert.deepEqual(arrange(second, people, ['p5', 'p4', 'p1', 'p3'], 3, 'p0'), second, 'neither oneself nor who speaks makes room');
  assert.deepEqual(arrange(second, ['p0', 'p2', 'p3', 'p6'], [], 3, 'p0'), ['p0', 'p3', 'p2', 'p6'], 'who goes leaves no gap, who comes is last');
  assert.deepEqual(arrange([], people, ['p5'], 6, 'p0'), people, 'where all fit nobody moves');
});

test('addresses become links, and nothing else does', () => {
  const of = (text) => links.linked(text).map((part) => (typeof part === 'string' ? part : { href: part.props.href, rel: part.props.rel }));
  const link = (href) => ({ href, rel: 'noopener noreferrer nofollow' });
  assert.deepEqual(of('Nothing here: javascript:alert(1) data:text/html,x www.example.org'), ['Nothing here: javascript:alert(1) data:text/html,x www.example.org']);
  assert.deepEqual(of('See https://a.test/x_(y)?z=1#w, or (http://b.test/).'), ['See ', link('https://a.test/x_(y)?z=1#w'), ', or (', link('http://b.test/'), ').']);
  assert.deepEqual(of('HTTPS://A.test'), ['', link('HTTPS://A.test'), '']);
  assert.deepEqual(of('https:// http://<b>'), ['https:// http://<b>']);
});
