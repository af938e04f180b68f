// SPDX-License-Identifier: Apache-2.0
import type { Socket } from 'node:net';
import { native } from '../dataplane/native.js';

/** User id of who connected to a Unix socket of ours, as the kernel says; null when it does not. */
export function peerUser(socket: Socket): number | null {
  const fd: unknown = Reflect.get(Object(Reflect.get(socket, '_handle')), 'fd'); // node shows it nowhere else
  if (typeof fd !== 'number' || fd < 0) return null; // closed already
  const uid = native.peerUser(fd);
  return uid === 0xffff_ffff ? null : uid;
}
