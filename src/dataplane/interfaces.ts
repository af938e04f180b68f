// SPDX-License-Identifier: Apache-2.0
// How programs come to be on an interface.

export type XdpMode = 'native' | 'generic';

export type TcMode = 'tcx' | 'clsact';

/** `auto`: tcx where the kernel has it, else clsact. */
export type TcChoice = 'auto' | TcMode;

/** An interface that takes the clients' packets. `auto`: native where the driver can do it, else generic with a warning. */
export interface InterfaceConfig {
  readonly name: string;
  readonly xdp: XdpMode | 'auto';
  /** How programs beside XDP are attached. Default: auto. */
  readonly tc?: TcChoice;
}
