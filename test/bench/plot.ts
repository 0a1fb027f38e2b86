// SPDX-License-Identifier: Apache-2.0
/** Plots of a report, as data. */

export interface BarPlot {
  kind: 'bars';
  title: string;
  unit: string;
  /** `muted`: what the others are held against. */
  bars: readonly { label: string; value: number; low?: number; high?: number; muted?: boolean }[];
  /** A line across: the floor, or what is promised. */
  mark?: { label: string; value: number };
  /** Bars of short names that are many: side by side. */
  upright?: boolean;
}

export interface LinePlot {
  kind: 'lines';
  title: string;
  /** `ticks`: these and no others. */
  x: { label: string; log?: boolean; ticks?: readonly number[] };
  y: { label: string; log?: boolean };
  /** `muted`: what the others are held against. */
  lines: readonly { name: string; muted?: boolean; points: readonly (readonly [x: number, y: number])[] }[];
}

export type Plot = BarPlot | LinePlot;
