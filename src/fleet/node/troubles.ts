// SPDX-License-Identifier: Apache-2.0
/** What is wrong with a node, by what it came of, and what it tells of itself: the same thing once, until it is over. */
import type { FleetProblem } from '../core/values.ts';
import type { FleetEvent } from './ports.ts';

type Source = 'disk' | 'policy' | 'azs' | 'store' | 'status';

export class Troubles {
  readonly #publish: (event: FleetEvent) => void;
  readonly #problems = new Map<Source, readonly FleetProblem[]>();
  readonly #told = new Map<string, string>();

  constructor(publish: (event: FleetEvent) => void) {
    this.#publish = publish;
  }

  set(of: Source, problems: readonly FleetProblem[]): void {
    this.#problems.set(of, problems);
  }

  all(): FleetProblem[] {
    return [...this.#problems.values()].flat();
  }

  tell(type: string, data: Record<string, unknown>): void {
    this.#publish({ type, device: null, data });
  }

  /** Once until it is something else. */
  tellOnce(key: string, what: string, type: string, data: Record<string, unknown>): void {
    if (this.#told.get(key) === what) return;
    this.#told.set(key, what);
    this.tell(type, data);
  }

  /** What begins with `prefix` is told anew when it comes again. */
  over(prefix: string): void {
    for (const key of this.#told.keys()) if (key.startsWith(prefix)) this.#told.delete(key);
  }
}
