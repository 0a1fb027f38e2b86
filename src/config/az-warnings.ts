// SPDX-License-Identifier: Apache-2.0
/** AZs that are valid, and will not be failed over as somebody may expect. Pure. */
import type { DeviceConfig } from './device.ts';

export interface AzWarning {
  readonly code: 'silence_unheard' | 'never_failed';
  readonly az: string;
  readonly message: string;
}

export function azWarnings({ azs, failover, numQueues }: DeviceConfig): AzWarning[] {
  return azs.flatMap((az) => {
    const warnings: AzWarning[] = [];
    if (az.silenceMs !== undefined && az.prefixes.length === 0) {
      const message = `AZ ${az.name} has silence_ms, but no prefixes: nothing is ever heard from it, so silence says nothing.`;
      warnings.push({ code: 'silence_unheard', az: az.name, message });
    }
    const isWatched = az.silenceMs !== undefined || az.probe !== undefined || az.bfd !== undefined;
    const left = (numQueues ?? 0) - az.queues.length;
    if (
      isWatched &&
      numQueues !== undefined &&
      failover.policy === 'evacuate' &&
      left < failover.panicShare * numQueues
    ) {
      const message = `Without AZ ${az.name} ${left} of ${numQueues} queues are left, less than panic_share (${failover.panicShare}) asks for: it is never failed over by itself.`;
      warnings.push({ code: 'never_failed', az: az.name, message });
    }
    return warnings;
  });
}
