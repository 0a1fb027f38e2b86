// SPDX-License-Identifier: Apache-2.0
/** Asks for a token, and finds out what it is good for. */
import { devicePath, Refused } from './api.mjs';
import { problemText } from './azs.mjs';
import { byId, setText } from './dom.mjs';

/** @import { Api, TokenStore } from './api.mjs' */

export class TokenDialog {
  #dialog = byId('token-dialog', HTMLDialogElement);
  #input = byId('token-value', HTMLInputElement);
  #problem = byId('token-problem', HTMLElement);
  #button = byId('token', HTMLButtonElement);
  #forget = byId('token-forget', HTMLButtonElement);
  #api;
  #store;
  #device;
  #onChange;

  /**
   * @param {object} parts
   * @param {Api} parts.api
   * @param {TokenStore} parts.store
   * @param {() => string} parts.device one to ask about
   * @param {(mayWrite: boolean) => void} parts.onChange
   */
  constructor({ api, store, device, onChange }) {
    this.#api = api;
    this.#store = store;
    this.#device = device;
    this.#onChange = onChange;
    this.#button.addEventListener('click', () => this.open());
    this.#forget.addEventListener('click', () => {
      this.forget();
      this.#dialog.close();
    });
    byId('token-cancel', HTMLButtonElement).addEventListener('click', () => this.#dialog.close());
    byId('token-form', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#use(this.#input.value.trim());
    });
    // What was typed does not stay in the page.
    this.#dialog.addEventListener('close', () => {
      this.#input.value = '';
    });
    this.#showState(false);
  }

  open() {
    setText(this.#problem, '');
    this.#forget.hidden = this.#store.value === null;
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  forget() {
    this.#store.set(null);
    this.#showState(false);
    this.#onChange(false);
  }

  /** Of a tab that was loaded again. */
  async restore() {
    const token = this.#store.value;
    if (token === null) return;
    try {
      const scope = await this.#scopeOf(token);
      if (scope === null) return this.forget();
      this.#showState(true);
      this.#onChange(scope === 'write');
    } catch {
      // The daemon is away; what the token is good for is seen when it is used.
      this.#showState(true);
      this.#onChange(true);
    }
  }

  /** @param {string} token */
  async #use(token) {
    setText(this.#problem, '');
    if (!/^[\w.~+/-]+=*$/.test(token)) return setText(this.#problem, 'This is not a token.');
    try {
      const scope = await this.#scopeOf(token);
      if (scope === null) return setText(this.#problem, 'The daemon does not know this token.');
      this.#store.set(token);
      this.#showState(true);
      this.#onChange(scope === 'write');
      if (scope === 'write') this.#dialog.close();
      else
        setText(this.#problem, 'This token is for reading: it is kept, but AZs cannot be failed or recovered with it.');
    } catch (error) {
      setText(this.#problem, problemText(error));
    }
  }

  /**
   * Asks what mending the device would do: who may not write is refused before it is looked for. Throws Refused,
   * Unreachable.
   * @param {string} token
   * @returns {Promise<'read' | 'write' | null>} null: not known
   */
  async #scopeOf(token) {
    try {
      await this.#api.send('POST', devicePath(this.#device(), '/apply?dryRun=true'), undefined, token);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 401) return null;
      if (error.status === 403) return 'read';
      if (error.status === 429 || error.status >= 500) throw error;
    }
    return 'write';
  }

  /** @param {boolean} isSet */
  #showState(isSet) {
    setText(this.#button, isSet ? 'Token…' : 'Write token…');
  }
}
