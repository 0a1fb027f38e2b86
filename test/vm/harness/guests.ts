// SPDX-License-Identifier: Apache-2.0
/** The guests of a run, some at a time: an emulated guest keeps one CPU of the host busy, whatever number it has itself. */
import { availableParallelism } from 'node:os';
import type { GuestOrder } from './protocol.ts';
import { GuestSession } from './session.ts';

const AT_A_TIME = Math.max(1, Math.min(2, availableParallelism()));

export class Guests {
  readonly #orders: readonly GuestOrder[];
  readonly #sessions: readonly PromiseWithResolvers<GuestSession>[];
  #next = 0;

  /** @param orders in the order in which their results are asked for */
  constructor(orders: readonly GuestOrder[]) {
    this.#orders = orders;
    this.#sessions = orders.map(() => Promise.withResolvers<GuestSession>());
    // One that does not come up is told to whoever asks for it.
    for (const { promise } of this.#sessions) promise.catch(() => undefined);
  }

  /** Begins with the first. Each that ends makes room for the next. */
  start(): void {
    for (let lane = 0; lane < AT_A_TIME; lane++) void this.#bootNext();
  }

  async #bootNext(): Promise<void> {
    for (let index = this.#next++; index < this.#orders.length; index = this.#next++) {
      const { resolve, reject } = this.#sessions[index]!;
      try {
        const session = await GuestSession.boot(this.#orders[index]!);
        resolve(session);
        await session.ended;
      } catch (error) {
        reject(error);
      }
    }
  }

  /** Once it has booted. */
  session(index: number): Promise<GuestSession> {
    return this.#sessions[index]!.promise;
  }

  /** Boots no more, and ends those whose results nobody asked for. */
  end(): void {
    this.#next = this.#orders.length;
    for (const { promise } of this.#sessions) {
      promise.then(
        (session) => session.dispose(),
        () => undefined,
      );
    }
  }
}
