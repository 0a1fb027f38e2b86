// SPDX-License-Identifier: Apache-2.0
/** What would keep a compose file from starting: unknown fields, volumes and files that are not there. Pure. */
import { parse } from 'yaml';

interface Service {
  image?: string;
  volumes?: string[];
  depends_on?: string[];
}

/** Of the Compose Specification, those that are used here. */
const serviceFields = new Set(
  'image network_mode restart user read_only command volumes depends_on environment cap_add cap_drop pid'.split(' '),
);

/** @param isThere whether a path relative to the file exists */
export function composeProblems(text: string, isThere: (file: string) => boolean): string[] {
  const { services = {}, volumes = {} } = parse(text) as {
    services?: Record<string, Service>;
    volumes?: Record<string, unknown>;
  };
  const problems = Object.keys(services).length === 0 ? ['it has no service'] : [];
  for (const [name, service] of Object.entries(services)) {
    for (const field of Object.keys(service)) {
      if (!serviceFields.has(field)) problems.push(`service ${name} has the unknown field ${field}`);
    }
    if (!/^[\w./-]+:[\w.-]+$/.test(service.image ?? '')) problems.push(`service ${name} names no version of its image`);
    for (const other of service.depends_on ?? []) {
      if (services[other] === undefined) problems.push(`service ${name} depends on ${other}, which is none`);
    }
    for (const volume of service.volumes ?? []) {
      const [source = ''] = volume.split(':');
      const known = source.startsWith('.') ? isThere(source) : source.startsWith('/') || source in volumes;
      if (!known) problems.push(`service ${name} mounts ${source}, which does not exist`);
    }
  }
  return problems;
}
