// What changes, and who is told of it.

import type { Store } from './api.ts';

/** A store that its owner may change. */
export class Box<T extends object> implements Store<T> {
  private readonly watchers = new Set<() => void>();

  constructor(private now: T) {
    this.subscribe = this.subscribe.bind(this); // it is handed around by itself
  }

  get state(): T {
    return this.now;
  }

  /** Replaces the state if any of these parts is another than before. */
  set(parts: Partial<T>): void {
    const names = Object.keys(parts) as (keyof T)[];
    if (names.every((name) => Object.is(parts[name], this.now[name]))) return;
    this.now = { ...this.now, ...parts };
    tellAll(this.watchers);
  }

  subscribe(changed: () => void): () => void {
    const watcher = (): void => changed(); // one function may be given twice
    this.watchers.add(watcher);
    return () => { this.watchers.delete(watcher); };
  }
}

type Listeners<E> = { [name in keyof E]?: Set<(...args: any[]) => void> };

/** Tells listeners what happens once. */
export class Emitter<E extends { [name in keyof E]: (...args: never[]) => void }> {
  private readonly listeners: Listeners<E> = {};

  on<N extends keyof E>(name: N, listener: E[N]): () => void {
    const own = (...args: Parameters<E[N]>): void => listener(...args);
    const all = (this.listeners[name] ??= new Set());
    all.add(own);
    return () => { all.delete(own); };
  }

  emit<N extends keyof E>(name: N, ...args: Parameters<E[N]>): void {
    tellAll(this.listeners[name] ?? [], ...args);
  }
}

/** One listener that throws does not keep it from the others: its error is the page's, and reported as such. */
function tellAll<A extends unknown[]>(all: Iterable<(...args: A) => void>, ...args: A): void {
  for (const one of [...all]) {
    try {
      one(...args);
    } catch (error) {
      queueMicrotask(() => { throw error; });
    }
  }
}
