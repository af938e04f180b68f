// SPDX-License-Identifier: Apache-2.0
// What drivers say they can do with XDP: the generic netlink family "netdev" (Linux 6.3; include/uapi/linux/netdev.h).
import { createGenericNetlink } from './rtnetlink.js';

const CTRL_CMD_GETFAMILY = 3;
const NETDEV_CMD_DEV_GET = 1;
const NETDEV_A_DEV_IFINDEX = 1;
const NETDEV_A_DEV_XDP_FEATURES = 3;
const NETDEV_XDP_ACT = { basic: 1n, redirect: 2n } as const;

/** Whether an interface can run XDP natively and send what is redirected; null when the kernel cannot say. */
export async function nativeXdp(
  ifindex: number,
): Promise<{ readonly basic: boolean; readonly redirect: boolean } | null> {
  const netlink = createGenericNetlink();
  try {
    const [family] = await netlink.ctrlRequest(CTRL_CMD_GETFAMILY, { familyName: 'netdev' });
    const question = Buffer.alloc(8); // struct nlattr, u32
    question.writeUInt16LE(8, 0);
    question.writeUInt16LE(NETDEV_A_DEV_IFINDEX, 2);
    question.writeUInt32LE(ifindex, 4);
    const [[answer]] = await netlink.request(family?.familyId ?? 0, NETDEV_CMD_DEV_GET, 1, question);
    const features = answer ? featuresIn(answer.data) : null;
    if (features === null) return null;
    const can = (bit: bigint): boolean => (features & bit) !== 0n;
    return { basic: can(NETDEV_XDP_ACT.basic), redirect: can(NETDEV_XDP_ACT.redirect) };
  } catch {
    return null; // ENOENT before 6.3
  } finally {
    netlink.socket.socket.close();
  }
}

function featuresIn(data: Buffer): bigint | null {
  for (let at = 0; at + 4 <= data.length; ) {
    const size = data.readUInt16LE(at);
    if (size < 4) return null;
    if (data.readUInt16LE(at + 2) === NETDEV_A_DEV_XDP_FEATURES && size >= 12) return data.readBigUInt64LE(at + 4);
    at += (size + 3) & ~3;
  }
  return null;
}
