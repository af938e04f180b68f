#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
. "${FAIRLEAD_PROVISION:-/provision}/common.sh"
packages curl
