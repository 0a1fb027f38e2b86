// SPDX-License-Identifier: Apache-2.0
/** Boxes, arrows and words of the documentation's pictures. Pure. */

export const colours = {
  kernel: '#dbeafe',
  user: '#dcfce7',
  az: ['#fde68a', '#bfdbfe', '#fbcfe8'],
  lost: '#e5e7eb',
  line: '#334155',
  text: '#0f172a',
  quiet: '#64748b',
} as const;

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

/** Words, each line centred on `x` below the other. */
export function words(
  x: number,
  y: number,
  text: string,
  { size = 13, colour = colours.text as string, bold = false, anchor = 'middle' } = {},
): string {
  return text
    .split('\n')
    .map(
      (line, index) =>
        `<text x="${x}" y="${y + index * size * 1.3}" font-size="${size}" fill="${colour}" text-anchor="${anchor}"${bold ? ' font-weight="bold"' : ''}>${escaped(line)}</text>`,
    )
    .join('\n');
}

/** A box with a title, and smaller words below it. */
export function box({ x, y, width, height }: Box, title: string, note = '', fill: string = colours.kernel): string {
  const lines = note === '' ? 0 : note.split('\n').length;
  const first = y + height / 2 + 5 - (lines * 15) / 2;
  return [
    `<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="6" fill="${fill}" stroke="${colours.line}"/>`,
    words(x + width / 2, first, title, { bold: true }),
    ...(note === '' ? [] : [words(x + width / 2, first + 16, note, { size: 11 })]),
  ].join('\n');
}

/** A straight line with a head at its end, and words beside its middle. */
export function arrow(x1: number, y1: number, x2: number, y2: number, label = '', dashed = false): string {
  const line = `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="${colours.line}" stroke-width="1.5" marker-end="url(#head)"${dashed ? ' stroke-dasharray="5 4"' : ''}/>`;
  if (label === '') return line;
  return `${line}\n${words((x1 + x2) / 2 + (x1 === x2 ? 8 : 0), (y1 + y2) / 2 - 6, label, { size: 11, colour: colours.quiet, anchor: x1 === x2 ? 'start' : 'middle' })}`;
}

/** A whole picture on a white ground, so that it can be read on dark pages too. `title` is what it shows, for all readers. */
export function picture(width: number, height: number, title: string, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" font-family="system-ui, sans-serif">
<title>${escaped(title)}</title>
<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="${colours.line}"/></marker></defs>
<rect width="${width}" height="${height}" fill="#ffffff"/>
${parts.join('\n')}
</svg>
`;
}
