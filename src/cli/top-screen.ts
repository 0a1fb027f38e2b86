// SPDX-License-Identifier: Apache-2.0
/** The terminal as vnicctl top uses it: another screen, single keys; put back whatever ends the process. */
import type { ReadStream, WriteStream } from 'node:tty';

const ENTER = '\x1b[?1049h\x1b[?25l\x1b[?7l';
const LEAVE = '\x1b[?7h\x1b[?25h\x1b[?1049l';
const HOME = '\x1b[H';
const CLEAR_LINE = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

export class TopScreen implements Disposable {
  readonly #out: WriteStream;
  readonly #undo: (() => void)[] = [];

  /**
   * @param onKey a key, as the character that it types
   * @param onResize the size has changed
   * @param onEnd a signal wants the process to end
   */
  constructor(
    input: ReadStream,
    output: WriteStream,
    { onKey, onResize, onEnd }: { onKey: (key: string) => void; onResize: () => void; onEnd: () => void },
  ) {
    this.#out = output;
    output.write(ENTER);
    const leave = (): void => void output.write(LEAVE);
    this.#undo.push(leave);
    // Also where an error that nobody caught ends the process.
    process.once('exit', leave);
    this.#undo.push(() => process.off('exit', leave));
    if (input.isTTY) {
      input.setRawMode(true);
      const take = (bytes: Buffer): void => {
        const text = bytes.toString();
        // Arrows and function keys come as one escape sequence: no keys of ours.
        if (!text.startsWith('\x1b') || text === '\x1b') for (const key of text) onKey(key);
      };
      input.on('data', take);
      input.resume();
      this.#undo.push(() => {
        input.off('data', take);
        input.setRawMode(false);
        input.pause();
      });
    }
    output.on('resize', onResize);
    this.#undo.push(() => output.off('resize', onResize));
    for (const signal of signals) {
      process.on(signal, onEnd);
      this.#undo.push(() => process.off(signal, onEnd));
    }
  }

  get size(): { columns: number; rows: number } {
    return { columns: this.#out.columns || 80, rows: this.#out.rows || 24 };
  }

  /** In one write, over what is there: nothing flickers. */
  draw(lines: readonly string[]): void {
    const text = lines.map((line) => `${line}${CLEAR_LINE}`).join('\r\n');
    this.#out.write(`${HOME}${text}${CLEAR_BELOW}`);
  }

  [Symbol.dispose](): void {
    for (const step of this.#undo.splice(0).reverse()) step();
  }
}
