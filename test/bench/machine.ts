// SPDX-License-Identifier: Apache-2.0
/** On what a benchmark ran. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { onlineCpus } from '../../src/app/machine.ts';
import { measureMachineCosts } from './machine-costs.ts';
import type { BenchOptions } from './options.ts';

export interface MachineDescription {
  machine: Record<string, string | number | boolean | null>;
  versions: Record<string, string | null>;
}

/** First line of what a command says, or null if it is not there. */
export function firstLineOf(command: string, args: readonly string[]): string | null {
  try {
    const text = execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return text.split('\n')[0] ?? null;
  } catch {
    return null;
  }
}

function readFirst(file: string): string | null {
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : null;
}

function systemdVirt(): string | null {
  return firstLineOf('systemd-detect-virt', []) ?? readFirst('/sys/hypervisor/type');
}

export async function describeMachine(
  libbpf: string | null,
  { quick, parts }: BenchOptions,
): Promise<MachineDescription> {
  return {
    machine: {
      cpu: cpus()[0]?.model ?? null,
      cpus: onlineCpus().length,
      memory_gib: Math.round(totalmem() / 2 ** 30),
      virtualization: systemdVirt(),
      bpf_jit: readFirst('/proc/sys/net/core/bpf_jit_enable') === '1',
      mitigations_spectre_v2: readFirst('/sys/devices/system/cpu/vulnerabilities/spectre_v2'),
      ...(await measureMachineCosts()),
      load_1_minute: Number(loadavg()[0]!.toFixed(2)),
      started: new Date().toISOString(),
      form: quick ? 'quick' : 'full',
      parts: parts.join(','),
    },
    versions: {
      kernel: release(),
      node: process.version,
      libbpf,
      clang: firstLineOf('clang-19', ['--version']) ?? firstLineOf('clang-14', ['--version']),
      vnicctl: firstLineOf('git', ['describe', '--always', '--dirty']),
      nft: firstLineOf('nft', ['--version']),
      tc: firstLineOf('tc', ['-V']),
    },
  };
}
