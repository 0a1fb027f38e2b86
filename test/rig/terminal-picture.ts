// SPDX-License-Identifier: Apache-2.0
/** What a program drew on a terminal, as HTML. Pure. */

const styles: Readonly<Record<string, string>> = {
  '1': 'font-weight:700',
  '2': 'opacity:.7',
  '31': 'color:#ff8a8a',
  '32': 'color:#7ee2a0',
  '33': 'color:#f4c56a',
};
/** Ends of those: bold and dim, colour. */
const ends: Readonly<Record<string, readonly string[]>> = {
  '0': Object.keys(styles),
  '22': ['1', '2'],
  '39': ['31', '32', '33'],
};

const ESC = '\x1b';
/** Any sequence of control, and the one of colours and weights. */
const sequence = new RegExp(`(${ESC}\\[[\\d;?]*[A-Za-z])`);
const rendition = new RegExp(`^${ESC}\\[([\\d;]*)m$`);

const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** What was drawn last on the other screen: from the cursor's way home to the end, or to leaving that screen. */
export function lastScreen(output: string): string {
  const drawn = output.split('\x1b[?1049l')[0]!.split('\x1b[H').at(-1)!;
  return drawn.split('\x1b[?7h')[0]!.replaceAll('\x1b[K', '').replaceAll('\x1b[J', '').replaceAll('\r', '');
}

/**
 * A page with the screen in a `pre`.
 * @throws Error for an escape sequence that it does not know: the picture would not be what a terminal shows
 */
export function terminalPage(screen: string): string {
  const active = new Set<string>();
  const spans = screen.split(sequence).map((part) => {
    if (!part.startsWith('\x1b')) {
      const style = [...active].map((code) => styles[code]).join(';');
      return style === '' || part === '' ? escaped(part) : `<span style="${style}">${escaped(part)}</span>`;
    }
    const codes = rendition.exec(part)?.[1]?.split(';');
    for (const code of codes ?? [part]) {
      if (code in styles) active.add(code);
      else if (code in ends) for (const ended of ends[code]!) active.delete(ended);
      else throw new Error(`the terminal's ${JSON.stringify(part)} is not drawn`);
    }
    return '';
  });
  return `<!doctype html><meta charset="utf-8">
<style>pre { display: inline-block; margin: 0; padding: 14px 18px; background: #14181d; color: #e2e6ea; font: 14px/1.35 "DejaVu Sans Mono", monospace; }</style>
<pre>${spans.join('')}</pre>`;
}
