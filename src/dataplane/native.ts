// SPDX-License-Identifier: Apache-2.0
// The whole surface of native/ (same order as the registration in native/src/addon.cc). Nothing else imports the addon.
import { createRequire } from 'node:module';

/** What every failure of the addon carries. `errno` is positive (EBUSY = 16), 0 when no system call failed. */
export interface NativeFailure {
  readonly code: string; // 'EBUSY', 'EINVAL', ..., 'CLOSED' (use after close), 'ARGUMENT', 'VERIFIER', 'LAYOUT'
  readonly errno: number;
  readonly call: string; // 'bpf_map_update_elem', 'bpf_link_create', ...
  readonly object: string; // map, program, path or interface concerned; '' when none
  readonly log: string | null; // the verifier's whole log, on 'VERIFIER' only
}

/** A named variable of .rodata, .data or .bss; `size` in bytes. */
export interface NativeVariable {
  readonly name: string;
  readonly section: string;
  readonly size: number;
}

export interface NativeMapInfo {
  readonly id: number;
  readonly type: number; // enum bpf_map_type
  readonly keySize: number;
  readonly valueSize: number; // as declared; a per-CPU value read from user space is round_up(valueSize, 8) x possibleCpus
  readonly maxEntries: number;
  readonly flags: number;
  readonly name: string; // cut to 15 characters by the kernel
}

/** A map. Keys and values are bytes in the layout of the C struct (host byte order unless the field is __be). */
export interface NativeMap {
  readonly info: NativeMapInfo;
  /** Bytes of one value as user space reads it: valueSize, or round_up(valueSize, 8) x possibleCpus for per-CPU maps. */
  readonly slotSize: number;
  get(key: Uint8Array): Uint8Array | null;
  /** flags: 0 any, 1 create only (EEXIST), 2 replace only (ENOENT). Throws E2BIG when full. */
  set(key: Uint8Array, value: Uint8Array, flags: number): void;
  /** False when the key was not there. */
  delete(key: Uint8Array): boolean;
  /** The key after `key` in the kernel's order; the first for null; null at the end. */
  nextKey(key: Uint8Array | null): Uint8Array | null;
  /** The whole map, off the main thread; keys and values one after the other. */
  readAll(): Promise<{ count: number; keys: Uint8Array; values: Uint8Array }>;
  setBatch(count: number, keys: Uint8Array, values: Uint8Array): Promise<void>;
  deleteBatch(count: number, keys: Uint8Array): Promise<void>;
  /** The memory of an array map with BPF_F_MMAPABLE: element i at i x round_up(valueSize, 8). A store is seen by BPF at once. Valid until the ArrayBuffer is collected, also after close(). */
  mmap(): ArrayBuffer;
  pin(path: string): void;
  close(): void;
}

/** What BPF_PROG_TEST_RUN returned. `durationNs` is the kernel's mean per run. */
export interface NativeRun {
  readonly retval: number;
  readonly data: Uint8Array;
  readonly durationNs: number;
}

export interface NativeProgram {
  readonly name: string;
  readonly id: number;
  readonly fd: number; // what an array of programs takes as a value; valid until close()
  readonly tag: string; // 16 hex digits
  /** `context` is a struct xdp_md (or __sk_buff) as bytes, null for none. Synchronous when repeat is 1. */
  run(data: Uint8Array, context: Uint8Array | null): NativeRun;
  /** Off the main thread; `liveFrames` sets BPF_F_TEST_XDP_LIVE_FRAMES (then data of the result is empty). */
  runMany(data: Uint8Array, context: Uint8Array | null, repeat: number, liveFrames: boolean): Promise<NativeRun>;
  /** Of the maps it uses, its constants (.rodata) among them. */
  mapIds(): readonly number[];
  pin(path: string): void;
  close(): void;
}

export interface NativeLink {
  readonly id: number;
  readonly interfaceIndex: number; // 0 when the interface is gone
  readonly programId: number;
  /** The program on the interface now, by a handle of its own. Throws EPERM without CAP_SYS_ADMIN: see held.ts. */
  program(): NativeProgram;
  /** Replaces the program without a gap. With `expected`, only if that program is the current one (EPERM otherwise). */
  update(program: NativeProgram, expected: NativeProgram | null): Promise<void>;
  pin(path: string): void;
  /** Takes the program off the interface at once, pinned or not. */
  detach(): void;
  /** Drops this handle. An unpinned link goes with its last handle. */
  close(): void;
}

/** An ELF object: opened, then configured, then loaded once. */
export interface NativeObject {
  readonly maps: readonly string[];
  readonly programs: readonly string[];
  readonly variables: readonly NativeVariable[];
  /** Initial value of a global; before load only. `value` must have exactly the variable's size. */
  setVariable(name: string, value: Uint8Array): void;
  setMaxEntries(map: string, count: number): void;
  setAutoload(program: string, load: boolean): void;
  /** Use an existing map instead of a new one. Throws LAYOUT, naming the field with both values, unless type, key size, value size, max entries and flags are all equal. */
  reuseMap(map: string, existing: NativeMap): void;
  /** Off the main thread. Rejects with code VERIFIER (message: the last useful line) when a program is refused. */
  load(): Promise<void>;
  map(name: string): NativeMap;
  program(name: string): NativeProgram;
  close(): void;
}

/** Bits of what a watch tells: kinds of things that changed. ROUTE is also rules and next-hop objects. */
export const NetworkChange = { LINK: 1, ADDRESS: 2, ROUTE: 4, NEIGHBOUR: 8, OVERRUN: 16 } as const;

/** Bytes of one neighbour event, in host byte order: u32 ifindex, u16 NUD_* state (0: gone), u8 family, u8 bytes of MAC (6, or 0 for none), 16 bytes address (IPv4 the first 4), 6 MAC, 2 padding. */
export const NEIGHBOUR_EVENT_BYTES = 32;

/** A subscription to rtnetlink. close() ends it; nothing is delivered afterwards. */
export interface NativeWatch {
  close(): void;
}

export interface NativeAddon {
  openObject(path: string): NativeObject;
  openMap(pin: string): NativeMap;
  openProgram(pin: string): NativeProgram;
  openLink(pin: string): NativeLink;
  createMap(
    name: string,
    type: number,
    keySize: number,
    valueSize: number,
    maxEntries: number,
    flags: number,
  ): NativeMap;
  /** `netns` is the path of a network namespace, null for the process's own. Runs off the main thread with setns there. */
  attachXdp(
    program: NativeProgram,
    interfaceName: string,
    netns: string | null,
    mode: 'native' | 'generic',
  ): Promise<NativeLink>;
  /** The same for a program of type tc, in front of those that are there (tcx). Rejects with EINVAL before Linux 6.6, and says so. */
  attachTcx(
    program: NativeProgram,
    interfaceName: string,
    netns: string | null,
    direction: 'ingress' | 'egress',
  ): Promise<NativeLink>;
  /**
   * The same as a filter of clsact with this handle, which stays when all handles here are closed; with `replace` in the place of the one that is
   * there, at once. True when there was no clsact qdisc and it has been made. Throws EEXIST where another filter has the handle, or an
   * ingress qdisc the place.
   */
  attachClsact(
    program: NativeProgram,
    interfaceIndex: number,
    direction: 'ingress' | 'egress',
    handle: number,
    replace: boolean,
  ): boolean;
  /** The kernel's number of the program of the filter with this handle; 0 without one, and without the interface. */
  clsactProgramId(interfaceIndex: number, direction: 'ingress' | 'egress', handle: number): number;
  /** That program; null without one. Throws EPERM without CAP_SYS_ADMIN. */
  clsactProgram(interfaceIndex: number, direction: 'ingress' | 'egress', handle: number): NativeProgram | null;
  /** Takes that filter off, and nothing else. */
  detachClsact(interfaceIndex: number, direction: 'ingress' | 'egress', handle: number): void;
  /** Removes the clsact qdisc unless it has a filter, of whomever: whether it did. */
  removeClsact(interfaceIndex: number): boolean;
  /**
   * Tells what changes in this thread's network namespace, at most once per turn of the event loop and 512 messages at a time.
   * `neighbours` is in the order of the events. On OVERRUN events were lost, and all must be asked anew: from the call on nothing is missing.
   * The watch does not keep the process alive.
   */
  watchNetwork(listener: (changed: number, neighbours: Uint8Array) => void): NativeWatch;
  /** Waits for an RCU grace period, off the main thread: afterwards no packet uses what was unlinked before the call. */
  synchronize(): Promise<void>;
  possibleCpus(): number;
  /** Length of a tick (a jiffy), ns: 4,000,000 at HZ=250. */
  tickNs(): number;
  /** 0 when there is no such interface in this process's network namespace. */
  interfaceIndex(name: string): number;
  /** flock(2), exclusive, without waiting: false while another open file holds it. The kernel gives it back when `fd` is closed, also by a kill. */
  tryLock(fd: number): boolean;
  /** User id of the process that connected to this Unix socket (SO_PEERCRED, unix(7)): 4294967295 for a socket of another kind. */
  peerUser(fd: number): number;
  /** One datagram to a Unix socket, without waiting; a path that begins with '@' is in the abstract namespace. */
  sendDatagram(path: string, text: string): void;
  /** Mounts bpffs at `path` (which exists) unless one is mounted there. True when it mounted. */
  mountBpffs(path: string): boolean;
  /** Libbpf's own messages, one line each, level 'warn' | 'info' | 'debug'. null: discard (the default). */
  setLog(listener: ((level: string, line: string) => void) | null): void;
}

const require = createRequire(import.meta.url);

/** The addon; built by `npm run build`. */
export const native: NativeAddon = require('../../../native/build/Release/fairlead.node') as NativeAddon;
