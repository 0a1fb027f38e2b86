// SPDX-License-Identifier: Apache-2.0
/** The configuration's section `fleet`: where etcd is, who this node is in it, and how it shows that. */
import { hostname } from 'node:os';
import type { Path, ProblemList } from '../steering/rules/problems.ts';
import { fleetSchema } from './schema.ts';

export interface FleetConfig {
  /** Members of etcd, such as https://10.0.0.1:2379. */
  endpoints: readonly string[];
  prefix: string;
  node: string;
  labels: Readonly<Record<string, string>>;
  /** Paths of PEM files. Null: what the system trusts, and no certificate of our own. */
  tls: { ca: string | null; cert: string | null; key: string | null } | null;
  auth: { user: string; passwordFile: string } | null;
  quorum: number | 'majority' | 'off';
  /** Puts back what others change on devices of the policy. */
  mendDrift: boolean;
}

const NODE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** Reads the section, recording problems; null: there is none. */
export function readFleet(input: unknown, path: Path, problems: ProblemList): FleetConfig | null {
  if (input === undefined) return null;
  const user = problems.checkFields(fleetSchema, input, path);
  const { endpoints = [], tls, auth } = user;
  const node = user.node ?? hostname();
  if (!NODE.test(node)) {
    problems.add([...path, 'node'], `the host's name ${JSON.stringify(node)} cannot name a node`, 'Give fleet.node.');
  }
  if (tls !== undefined && (tls.cert === undefined) !== (tls.key === undefined)) {
    problems.add([...path, 'tls'], 'cert and key belong together', 'Give both, or neither.');
  }
  if (tls !== undefined && endpoints.some((endpoint) => endpoint.startsWith('http:'))) {
    problems.add([...path, 'endpoints'], 'an http: address is not used with TLS', 'Write https: for every endpoint.');
  }
  return {
    endpoints: endpoints.map((endpoint) => endpoint.replace(/\/$/, '')),
    prefix: (user.prefix ?? '/vnic').replace(/\/$/, ''),
    node,
    labels: user.labels ?? {},
    tls: tls === undefined ? null : { ca: tls.ca ?? null, cert: tls.cert ?? null, key: tls.key ?? null },
    auth:
      auth?.user === undefined || auth.password_file === undefined
        ? null
        : { user: auth.user, passwordFile: auth.password_file },
    quorum: user.quorum ?? 'majority',
    mendDrift: user.mend_drift ?? true,
  };
}
