// SPDX-License-Identifier: Apache-2.0
/** Server-sent events as a client reads them: https://html.spec.whatwg.org/multipage/server-sent-events.html */

export interface ServerEvent {
  kind: 'event';
  /** Of this event or of the last one that had one; empty: none yet. */
  id: string;
  type: string;
  data: string;
}

/** Comments carry nothing; that one came tells that the server is there, and that no event waits before it. */
export type StreamPart = ServerEvent | { kind: 'comment' } | { kind: 'retry'; ms: number };

/** Turns the pieces of a stream, wherever they are cut, into its parts. */
export class EventStreamParser {
  readonly #decoder = new TextDecoder();
  #rest = '';
  #lastId = '';
  #type = '';
  #data: string[] = [];

  /** The parts that are complete now. */
  push(bytes: Uint8Array): StreamPart[] {
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split('\n');
    this.#rest = lines.pop() ?? '';
    return lines.flatMap((line) => this.#line(line.endsWith('\r') ? line.slice(0, -1) : line));
  }

  #line(line: string): StreamPart[] {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) return [{ kind: 'comment' }];
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '');
    switch (field) {
      case 'event':
        this.#type = value;
        break;
      case 'data':
        this.#data.push(value);
        break;
      case 'id':
        if (!value.includes('\0')) this.#lastId = value;
        break;
      case 'retry':
        return /^\d+$/.test(value) ? [{ kind: 'retry', ms: Number(value) }] : [];
    }
    return [];
  }

  #dispatch(): StreamPart[] {
    const type = this.#type || 'message';
    const data = this.#data;
    this.#type = '';
    this.#data = [];
    return data.length === 0 ? [] : [{ kind: 'event', id: this.#lastId, type, data: data.join('\n') }];
  }
}
