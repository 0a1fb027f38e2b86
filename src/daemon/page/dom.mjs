// SPDX-License-Identifier: Apache-2.0
/** Elements from data. Text is always set as text: nothing here reads HTML. */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * An element of the page that is there from the beginning.
 * @template {Element} Kind
 * @param {string} id
 * @param {new () => Kind} kind
 * @returns {Kind}
 */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (found instanceof kind) return found;
  throw new Error(`the page has no ${kind.name} ${id}`);
}

/**
 * Leaves alone what is as it should be: readers are told of changes only.
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * @param {Element} target
 * @param {string} name
 * @param {string | null} value null: without it
 */
export function setAttribute(target, name, value) {
  if (value === null) target.removeAttribute(name);
  else if (target.getAttribute(name) !== value) target.setAttribute(name, value);
}

/**
 * Elements for items, each kept for as long as its item is there: focus stays where it was.
 * @template Item
 * @template {{ readonly root: Element }} View
 */
export class KeyedViews {
  /** @type {Map<string, View>} */
  #views = new Map();
  #parent;
  #make;
  #update;

  /**
   * @param {Element} parent
   * @param {(item: Item) => View} make
   * @param {(view: View, item: Item) => void} update
   */
  constructor(parent, make, update) {
    this.#parent = parent;
    this.#make = make;
    this.#update = update;
  }

  /**
   * @param {readonly Item[]} items
   * @param {(item: Item) => string} keyOf
   */
  show(items, keyOf) {
    const keys = new Set(items.map(keyOf));
    for (const [key, view] of this.#views) {
      if (keys.has(key)) continue;
      view.root.remove();
      this.#views.delete(key);
    }
    for (const [index, item] of items.entries()) {
      const key = keyOf(item);
      const view = this.#views.get(key) ?? this.#make(item);
      this.#views.set(key, view);
      this.#update(view, item);
      if (this.#parent.children[index] !== view.root) {
        this.#parent.insertBefore(view.root, this.#parent.children[index] ?? null);
      }
    }
  }
}

/**
 * @template Item
 * @typedef {object} Column
 * @property {string} title
 * @property {'text' | 'number'} kind
 * @property {(item: Item) => string} text
 * @property {(item: Item) => string} [mark] a class for the cell
 */

/**
 * A table whose rows are used again.
 * @template Item
 */
export class Table {
  #body;
  #columns;
  #empty;

  /**
   * @param {HTMLTableElement} table
   * @param {readonly Column<Item>[]} columns the first names the row
   * @param {string} empty said where there is no row
   */
  constructor(table, columns, empty) {
    const heads = columns.map(({ title, kind }) => element('th', { scope: 'col', class: kind }, title));
    this.#body = element('tbody');
    this.#columns = columns;
    this.#empty = empty;
    table.append(element('thead', {}, element('tr', {}, ...heads)), this.#body);
  }

  /** @param {readonly Item[]} items */
  show(items) {
    const rows = this.#body.rows;
    if (items.length === 0) {
      const cell = element('td', { colspan: String(this.#columns.length), class: 'empty' }, this.#empty);
      if (rows.length !== 1 || rows[0]?.cells.length !== 1) this.#body.replaceChildren(element('tr', {}, cell));
      return;
    }
    if (rows[0]?.cells.length === 1 && this.#columns.length > 1) rows[0].remove();
    while (rows.length > items.length) rows[rows.length - 1]?.remove();
    while (rows.length < items.length) this.#body.append(this.#makeRow());
    for (const [index, item] of items.entries()) {
      for (const [place, { text, mark }] of this.#columns.entries()) {
        const cell = rows[index]?.cells[place];
        if (cell === undefined) continue;
        setText(cell, text(item));
        if (mark !== undefined) setAttribute(cell, 'data-mark', mark(item) || null);
      }
    }
  }

  #makeRow() {
    const cells = this.#columns.map(({ kind }, place) =>
      place === 0 ? element('th', { scope: 'row', class: kind }) : element('td', { class: kind }),
    );
    return element('tr', {}, ...cells);
  }
}
