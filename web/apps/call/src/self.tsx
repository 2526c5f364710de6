// One's own picture beside a single other: it lies over theirs, in a corner, and can be moved and put away.

import { useRef } from 'preact/hooks';
import type { Participant } from '@lyceum/client';
import { useStore } from '@lyceum/react';
import { Icon } from './icons';
import { CORNERS, hideSelf, page, putSelf, type Corner } from './page';
import { words } from './strings';
import { Tile } from './tile';

const say = words.self;

/** The corner in which an arrow key brings it. */
function towards(key: string, [height, width]: string[]): Corner | undefined {
  const moves: Record<string, string> = { ArrowUp: `top-${width}`, ArrowDown: `bottom-${width}`, ArrowLeft: `${height}-left`, ArrowRight: `${height}-right` };
  return CORNERS.find((one) => one === moves[key]);
}

export function SelfView({ who, speaking }: { who: Participant; speaking: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const held = useRef<[x: number, y: number] | null>(null);
  const corner = useStore(page, (state) => state.corner);
  const drag = (event: PointerEvent): void => {
    if (!held.current || !box.current) return;
    box.current.style.translate = `${event.clientX - held.current[0]}px ${event.clientY - held.current[1]}px`;
  };
  const take = (event: PointerEvent): void => {
    if (event.button || (event.target as Element).closest('button')) return;
    held.current = [event.clientX, event.clientY];
    box.current?.setPointerCapture(event.pointerId);
  };
  const drop = (): void => {
    const stage = box.current?.parentElement?.getBoundingClientRect();
    const own = box.current?.getBoundingClientRect();
    if (!held.current || !box.current || !stage || !own) return;
    held.current = null;
    box.current.style.translate = '';
    const height = own.top + own.bottom < stage.top + stage.bottom ? 'top' : 'bottom';
    putSelf(`${height}-${own.left + own.right < stage.left + stage.right ? 'left' : 'right'}`);
  };
  const turn = (event: KeyboardEvent): void => {
    const next = towards(event.key, corner.split('-'));
    if (!next) return;
    event.preventDefault();
    putSelf(next);
  };
  return (
    <div ref={box} class={`self ${corner}`} onPointerDown={take} onPointerMove={drag} onPointerUp={drop} onPointerCancel={drop}>
      <Tile who={who} speaking={speaking} />
      <div class="self-tools">
        <button class="round small" data-action="move-self" aria-label={say.move} title={say.moveHint} onKeyDown={turn}
          onClick={() => putSelf(CORNERS[(CORNERS.indexOf(corner) + 1) % CORNERS.length] ?? corner)}><Icon name="corner" /></button>
        <button class="round small" data-action="hide-self" aria-label={say.hide} title={say.hide} onClick={() => hideSelf(true)}><Icon name="close" /></button>
      </div>
    </div>
  );
}
