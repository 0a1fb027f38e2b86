// SPDX-License-Identifier: Apache-2.0
/** The ways in which preflight asks its host, as ports: what a machine answered can be recorded and played back. */
import type { ChannelFacts, KernelFeature } from './facts.ts';

export interface FolderEntry {
  readonly name: string;
  readonly folder: boolean;
}

export interface HostFiles {
  /** The text of a file; null if it does not exist or may not be read. */
  read(path: string): string | null;
  /** Empty if there is no such folder. */
  list(path: string): readonly FolderEntry[];
  /** Where a symbolic link points to. */
  target(path: string): string | null;
}

export interface CommandResult {
  /** Null: there is no such command. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export type RunCommand = (command: string, args: readonly string[]) => CommandResult;

export type LegacyOffload = 'gro' | 'gso' | 'tso' | 'lro';

/** System calls. Null: the kernel does not say. */
export interface KernelQueries {
  driverOf(device: string): { readonly driver: string; readonly busInfo: string } | null;
  channelsOf(device: string): ChannelFacts | null;
  offload(device: string, offload: LegacyOffload): boolean | null;
  xdpFeatures(ifindex: number): number | null;
  /** Ids of the attached programs, 0 for none. */
  attachedPrograms(ifindex: number): { readonly native: number; readonly generic: number; readonly hardware: number };
  program(id: number): { readonly name: string; readonly tag: string } | null;
  /** All XDP links of an interface index (of any network namespace); null: links may not be listed. */
  xdpLinks(ifindex: number): readonly { readonly id: number; readonly programId: number }[] | null;
  pinnedObject(path: string): { readonly linkId: number | null; readonly programId: number | null } | null;
  bpfWorks(): boolean;
  /** Null where a refusal could have another reason than that the kernel lacks the feature. */
  hasFeature(feature: KernelFeature): boolean | null;
}

export interface PreflightPorts {
  readonly files: HostFiles;
  readonly run: RunCommand;
  readonly kernel: KernelQueries;
}
