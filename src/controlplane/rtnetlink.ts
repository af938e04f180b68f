// SPDX-License-Identifier: Apache-2.0
// The only importer of `netlink`: short-lived requests, no subscriptions (its error path aborts the process on overruns);
// what changes is told by the addon.
export { createGenericNetlink, createRtNetlink, FlagsNew, rt } from 'netlink';
