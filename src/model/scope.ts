// SPDX-License-Identifier: Apache-2.0

/** What a client of the API may do; each may do what those before it may: look; drain and weigh backends; everything. */
export const scopes = ['read', 'operate', 'admin'] as const;
export type Scope = (typeof scopes)[number];

/** Whether who has `had` may do what takes `wanted`. */
export function covers(had: Scope, wanted: Scope): boolean {
  return scopes.indexOf(had) >= scopes.indexOf(wanted);
}
