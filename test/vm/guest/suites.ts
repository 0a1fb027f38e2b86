// SPDX-License-Identifier: Apache-2.0
/** Every suite, by its file in this folder, in the order in which a guest runs them. */
import type { Suite } from './checks.ts';
import { suite as detach } from './detach.ts';
import { suite as driver } from './driver.ts';
import { suite as egress } from './egress.ts';
import { suite as follow } from './follow.ts';
import { suite as ingress } from './ingress.ts';
import { suite as instruments } from './instruments.ts';
import { suite as life } from './life.ts';
import { suite as machine } from './machine.ts';
import { suite as programs } from './programs.ts';
import { suite as rss } from './rss.ts';
import { suite as rssFacts } from './rss-facts.ts';
import { suite as steeringFacts } from './steering-facts.ts';
import { suite as tuning } from './tuning.ts';
import { suite as verdicts } from './verdicts.ts';

export const suites: Readonly<Record<string, Suite>> = {
  machine,
  verdicts,
  driver,
  'steering-facts': steeringFacts,
  'rss-facts': rssFacts,
  programs,
  instruments,
  tuning,
  // From attaching to detaching: each begins where the one before it ended.
  ingress,
  egress,
  detach,
  life,
  // Each attaches and detaches by itself.
  follow,
  rss,
};
