// SPDX-License-Identifier: Apache-2.0
/** Which text format a scraper gets, by its Accept header (RFC 9110, section 12.5.1). Pure. */

export type TextFormat = 'prometheus' | 'openmetrics';

interface Range {
  type: string;
  version: string | null;
  quality: number;
}

interface Offer {
  format: TextFormat;
  type: string;
  version: string;
}

/** The first one wins where the scraper does not mind. */
const offers: readonly Offer[] = [
  { format: 'prometheus', type: 'text/plain', version: '0.0.4' },
  { format: 'openmetrics', type: 'application/openmetrics-text', version: '1.0.0' },
];

/** The format that the header likes best; Prometheus text if it likes neither, as scrapers that ask for nothing expect. */
export function negotiate(accept: string | undefined): TextFormat {
  if (accept === undefined || accept.trim() === '') return offers[0]!.format;
  const ranges = accept.split(',').map(parseRange);
  const rated = offers.map((offer) => ({ offer, quality: qualityOf(offer, ranges) }));
  const best = rated.reduce((a, b) => (b.quality > a.quality ? b : a));
  return best.offer.format;
}

function parseRange(text: string): Range {
  const [type = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase());
  const named = new Map(
    parameters.map((parameter): [string, string] => {
      const [name = '', value = ''] = parameter.split('=');
      return [name.trim(), value.trim().replace(/^"(.*)"$/, '$1')];
    }),
  );
  const quality = Number(named.get('q') ?? 1);
  return { type, version: named.get('version') ?? null, quality: quality >= 0 && quality <= 1 ? quality : 0 };
}

/** Of the most specific range that the offer meets. */
function qualityOf({ type, version }: Offer, ranges: readonly Range[]): number {
  const family = `${type.split('/')[0]}/*`;
  const specificity = (range: Range): number => {
    if (range.type === type) return range.version === null ? 3 : range.version === version ? 4 : 0;
    if (range.type === family) return 2;
    return range.type === '*/*' ? 1 : 0;
  };
  let best = { specificity: 0, quality: 0 };
  for (const range of ranges) {
    const found = specificity(range);
    if (found > best.specificity) best = { specificity: found, quality: range.quality };
  }
  return best.quality;
}
