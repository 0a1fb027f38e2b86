// SPDX-License-Identifier: Apache-2.0
/** What would block or degrade attaching to a device, found before the kernel refuses it. */
export { type DiagnoseOptions, diagnose } from './diagnose.ts';
export * from './facts.ts';
export { type Finding, refuseIfBlocked, type Verdict, verdict } from './finding.ts';
export {
  type FindingCode,
  type FindingKind,
  findingTable,
  type Severity,
  type WhoMustChange,
} from './finding-table.ts';
export { parseCapabilities } from './gather/host.ts';
export { type GatherOptions, gatherFacts } from './gather/index.ts';
export { hostPorts } from './host-ports.ts';
export type * from './ports.ts';
export { singleBufferMtu } from './rules/driver.ts';
export { rxQueuesOf } from './rules/queues.ts';
