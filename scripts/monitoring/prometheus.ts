// SPDX-License-Identifier: Apache-2.0
/** A Prometheus of its own with the shipped configuration: its data lie in a temporary folder and go with it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse, stringify } from 'yaml';
import { findProgram } from '../testing/unpacked.ts';
import type { Queries } from './check.ts';
import { prometheusFolder } from './expressions.ts';

const START_TIMEOUT_MS = 60_000;

/** Null: it is not there. */
export function findTool(tool: 'prometheus' | 'promtool'): string | null {
  return findProgram('prometheus', `usr/bin/${tool}`);
}

export interface PrometheusOptions {
  /** host:port of the daemon. */
  target: string;
  /** On 127.0.0.1. */
  port: number;
}

interface ShippedConfig {
  rule_files: string[];
  scrape_configs: { job_name: string; static_configs: { targets: string[] }[] }[];
}

/** The shipped configuration, for another address of the daemon and another folder. */
export function configFor(target: string): string {
  const config = parse(readFileSync(path.join(prometheusFolder, 'prometheus.yml'), 'utf8')) as ShippedConfig;
  return stringify({
    ...config,
    rule_files: config.rule_files.map((file) => path.join(prometheusFolder, file)),
    scrape_configs: config.scrape_configs.map((scrape) => ({ ...scrape, static_configs: [{ targets: [target] }] })),
  });
}

interface Answer<T> {
  status: 'success' | 'error';
  error?: string;
  data: T;
}

export interface RuleState {
  name: string;
  health: string;
  lastError?: string;
}

export class Prometheus implements Queries, AsyncDisposable {
  readonly folder: string;
  readonly baseUrl: string;
  /** Of the process: its exit code, null if a signal ended it. */
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  #log = '';

  private constructor({ target, port }: PrometheusOptions) {
    this.folder = mkdtempSync(path.join(tmpdir(), 'vnic-prometheus-'));
    this.baseUrl = `http://127.0.0.1:${port}`;
    const configFile = path.join(this.folder, 'prometheus.yml');
    writeFileSync(configFile, configFor(target));
    this.#child = spawn(
      findTool('prometheus') ?? 'prometheus',
      [
        `--config.file=${configFile}`,
        `--storage.tsdb.path=${path.join(this.folder, 'data')}`,
        '--storage.tsdb.retention.time=1d',
        `--web.listen-address=127.0.0.1:${port}`,
        '--log.level=warn',
      ],
      // A group of its own: Ctrl-C is for us, and we end it.
      { stdio: ['ignore', 'ignore', 'pipe'], detached: true },
    );
    this.#child.stderr?.on('data', (data: Buffer) => {
      this.#log = (this.#log + data.toString()).slice(-4000);
    });
    this.ended = new Promise((resolve) => {
      this.#child.once('error', (error) => {
        this.#log += error.message;
        resolve(1);
      });
      this.#child.once('exit', resolve);
    });
  }

  /** Returns when it answers queries. Throws with its log if it ends before that. */
  static async start(options: PrometheusOptions): Promise<Prometheus> {
    const prometheus = new Prometheus(options);
    try {
      await prometheus.#ready();
      return prometheus;
    } catch (error) {
      await prometheus[Symbol.asyncDispose]();
      throw error;
    }
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** The end of what it logged. */
  get log(): string {
    return this.#log;
  }

  async #ready(): Promise<void> {
    let hasEnded = false;
    void this.ended.then(() => {
      hasEnded = true;
    });
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (performance.now() < deadline && !hasEnded) {
      const reply = await fetch(`${this.baseUrl}/-/ready`).catch(() => null);
      await reply?.body?.cancel();
      // Another one may listen on the port; ours ends then.
      if (reply?.ok === true && !hasEnded) return;
      await sleep(100);
    }
    throw new Error(`prometheus did not start: ${this.#log.trim()}`);
  }

  async #ask<T>(route: string, request: RequestInit = {}): Promise<T> {
    const reply = await fetch(`${this.baseUrl}/api/v1/${route}`, request);
    const answer = (await reply.json()) as Answer<T>;
    if (answer.status !== 'success') throw new Error(answer.error ?? `HTTP ${reply.status}`);
    return answer.data;
  }

  async values(promql: string): Promise<number[]> {
    const { resultType, result } = await this.#ask<{ resultType: string; result: unknown }>('query', {
      method: 'POST',
      body: new URLSearchParams({ query: promql }),
    });
    if (resultType === 'scalar') return [Number((result as [number, string])[1])];
    return (result as { value: [number, string] }[]).map(({ value }) => Number(value[1]));
  }

  async names(): Promise<Set<string>> {
    return new Set(await this.#ask<string[]>('label/__name__/values'));
  }

  async rules(): Promise<RuleState[]> {
    return (await this.#ask<{ groups: { rules: RuleState[] }[] }>('rules')).groups.flatMap(({ rules }) => rules);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGTERM');
    await this.ended;
    rmSync(this.folder, { recursive: true, force: true });
  }
}
